// Token embedding of a SIMD level.
#include "embedding.h"

#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static void embedding(const Call& call, In tokens, In weight, Out y, InOut status) {
  int64_t d = last_dimension(weight), rows = row_count(y);
  TokenRows token_of = token_rows(tokens, rows, row_count(weight));
  dispatch_stored({weight.dtype, y.dtype}, [&]<class W, class Y>(Element<W>, Element<Y>) {
    for_rows(call, rows, d, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const W* in = elements<W>(weight) + table_row(token_of, row, status) * d;
        Y* out = elements<Y>(y) + row * d;
        for_vectors(0, d, [=](int64_t i, auto lanes) { store(out + i, load(in + i, lanes), lanes); });
      }
    });
  });
}

// One task owns a block of columns and goes through the positions in order, so a token's sum has one order.
static void embedding_backward(const Call& call, In dy, In tokens, InOut dweight, bool accumulate) {
  constexpr int64_t kColumns = 64;
  int64_t d = last_dimension(dy);
  TokenRows token_of = token_rows(tokens, row_count(dy), row_count(dweight));
  dispatch_stored({dy.dtype, dweight.dtype}, [&]<class DY, class DW>(Element<DY>, Element<DW>) {
    const DY* in = elements<DY>(dy);
    DW* out = elements<DW>(dweight);
    if (!accumulate)
      for_blocks(call, element_count(dweight), [=](int64_t first, int64_t last) {
        for_vectors(first, last, [=](int64_t i, auto lanes) { store(out + i, zero(), lanes); });
      });
    parallel_for(call, (d + kColumns - 1) / kColumns, [&](int64_t block, int) {
      int64_t first = block * kColumns, last = smaller(first + kColumns, d);
      token_of.for_each([=](int64_t row, int64_t token) {
        for_vectors(first, last, [=](int64_t i, auto lanes) {
          DW* sum = out + token * d + i;
          store(sum, add(load(sum, lanes), load(in + row * d + i, lanes)), lanes);
        });
      });
    });
  });
}

void fill_embedding(Kernels& table) {
  table.embedding = {embedding};
  table.embedding_backward = {embedding_backward};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
