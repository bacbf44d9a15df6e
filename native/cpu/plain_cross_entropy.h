// Cross-entropy of stored logits, a row at a time. A level brings only its way of reading and of writing a row.
//
//   loss = lse − z_y,  lse = ln Σ exp(z),  ∂loss/∂z_v = exp(z_v − lse) − [v = y]
#pragma once
#include "../core/normal.h"
#include "blocks.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

// What the logits of one row come to.
struct LogitStatistics {
  int64_t argmax;  // lowest index among equals
  double maximum;
  double log_sum;  // ln Σ exp(logit − maximum)
};

struct PlainTargets {
  const int32_t* tokens;                      // (B,S)
  const int32_t* limit;                       // (B,T) or absent
  int64_t stored, length, shift, vocabulary;  // S, T, …, V

  PlainTargets(const In& logits, const In& targets, const In& limits, int64_t shift_)
      : tokens(static_cast<const int32_t*>(targets.data)),
        limit(static_cast<const int32_t*>(limits.data)),
        stored(last_dimension(targets)),
        length(row_count(targets) ? row_count(logits) / row_count(targets) : 0),
        shift(shift_),
        vocabulary(last_dimension(logits)) {}

  // The class that row r must predict, or −1 where it is ignored.
  int64_t of(int64_t r) const {
    int64_t position = r % length + shift;
    if (position < 0 || position >= stored || (limit && position > limit[r])) return -1;
    int64_t y = tokens[r / length * stored + position];
    return y >= 0 && y < vocabulary ? y : -1;
  }
};

// Sums of rows are f32, of f64 logits f64.
static inline double load_sum(const View& view, int64_t i) {
  return view.dtype == DType::f64 ? static_cast<const double*>(view.data)[i] : static_cast<const float*>(view.data)[i];
}
static inline void store_sum(const View& view, int64_t i, double value) {
  if (view.dtype == DType::f64)
    static_cast<double*>(view.data)[i] = value;
  else
    static_cast<float*>(view.data)[i] = static_cast<float>(value);
}

// statistics(logits of a row, V) → LogitStatistics; value(logit) → double.
template <class Storage, class Statistics, class Value>
static inline void plain_losses(const Call& call, const In& logits, const PlainTargets& targets, const Out& loss,
                                const Out& lse, const Out& argmax, Statistics statistics, Value value) {
  for_rows(call, row_count(logits), targets.vocabulary, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      const Storage* row = static_cast<const Storage*>(logits.data) + r * targets.vocabulary;
      LogitStatistics found = statistics(row, targets.vocabulary);
      int64_t y = targets.of(r);
      // From the largest logit, so that a common offset of the logits costs nothing.
      store_sum(loss, r, y < 0 ? 0 : (found.maximum - value(row[y])) + found.log_sum);
      store_sum(lse, r, found.maximum + found.log_sum);
      if (given(argmax)) static_cast<int32_t*>(argmax.data)[r] = static_cast<int32_t>(found.argmax);
    }
  });
}

// gradient(logits of a row, dlogits of it, V, y, lse, upstream), for rows that count; the others become zeros.
template <class Storage, class Gradient>
static inline void plain_gradients(const Call& call, const In& logits, const PlainTargets& targets, const In& lse,
                                   const In& upstream, const Out& dlogits, Gradient gradient) {
  for_rows(call, row_count(logits), targets.vocabulary, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      int64_t V = targets.vocabulary, y = targets.of(r);
      const Storage* row = static_cast<const Storage*>(logits.data) + r * V;
      Storage* out = static_cast<Storage*>(dlogits.data) + r * V;
      if (y < 0)
        __builtin_memset(out, 0, static_cast<size_t>(V) * sizeof(Storage));
      else
        gradient(row, out, V, y, load_sum(lse, r), load_sum(upstream, r));
    }
  });
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
