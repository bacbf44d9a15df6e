// Which token belongs to which row of an embedding.
#pragma once
#include "blocks.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

// Tokens (B,S), of which the first T columns belong to the rows (B·T,d) of y.
struct TokenRows {
  const int32_t* tokens;
  int64_t sequences, stored, used, vocabulary;

  bool known(int64_t token) const { return token >= 0 && token < vocabulary; }
  int64_t of_row(int64_t row) const { return tokens[row / used * stored + row % used]; }

  // body(row, token) for every row whose token is known, in order.
  template <class Body>
  void for_each(Body body) const {
    for (int64_t sequence = 0; sequence < sequences; sequence++)
      for (int64_t t = 0; t < used; t++) {
        int64_t token = tokens[sequence * stored + t];
        if (known(token)) body(sequence * used + t, token);
      }
  }
};

static inline TokenRows token_rows(const In& tokens, int64_t rows, int64_t vocabulary) {
  int64_t sequences = larger(1, row_count(tokens));
  return {static_cast<const int32_t*>(tokens.data), sequences, last_dimension(tokens), rows / sequences, vocabulary};
}

// The row of the table to read: 0 for an unknown token, which is noted in status[0].
static inline int64_t table_row(const TokenRows& rows, int64_t row, const InOut& status) {
  int64_t token = rows.of_row(row);
  if (rows.known(token)) return token;
  if (given(status)) __atomic_store_n(static_cast<int32_t*>(status.data), 1, __ATOMIC_RELAXED);
  return 0;
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
