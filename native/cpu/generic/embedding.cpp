// Token embedding as plain loops: the specification.
#include "../embedding.h"

#include "dispatch.h"

namespace foretoken::generic {

static void embedding(const Call& call, In tokens, In weight, Out y, InOut status) {
  int64_t d = last_dimension(weight), rows = row_count(y);
  TokenRows token_of = token_rows(tokens, rows, row_count(weight));
  dispatch_alike({weight.dtype, y.dtype}, [&]<class W, class Y>(Element<W>, Element<Y>) {
    for_rows(call, rows, d, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const W* in = elements<W>(weight) + table_row(token_of, row, status) * d;
        Y* out = elements<Y>(y) + row * d;
        for (int64_t i = 0; i < d; i++) store_scalar(out + i, value_of(in[i]));
      }
    });
  });
}

// One task owns a block of columns and goes through the positions in order, so a token's sum has one order.
static void embedding_backward(const Call& call, In dy, In tokens, InOut dweight, bool accumulate) {
  constexpr int64_t kColumns = 64;
  int64_t d = last_dimension(dy);
  TokenRows token_of = token_rows(tokens, row_count(dy), row_count(dweight));
  dispatch_alike({dy.dtype, dweight.dtype}, [&]<class DY, class DW>(Element<DY>, Element<DW>) {
    const DY* in = elements<DY>(dy);
    DW* out = elements<DW>(dweight);
    if (!accumulate)
      for_blocks(call, element_count(dweight), [=](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i++) store_scalar(out + i, 0.0f);
      });
    parallel_for(call, (d + kColumns - 1) / kColumns, [&](int64_t block, int) {
      int64_t first = block * kColumns, last = smaller(first + kColumns, d);
      token_of.for_each([=](int64_t row, int64_t token) {
        for (int64_t i = first; i < last; i++)
          store_scalar(out + token * d + i, value_of(out[token * d + i]) + value_of(in[row * d + i]));
      });
    });
  });
}

void fill_embedding(Kernels& table) {
  table.embedding = {embedding};
  table.embedding_backward = {embedding_backward};
}

}  // namespace foretoken::generic
