// RMS norm of a SIMD level; formulas in generic/rms_norm.cpp.
#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

template <class X>
static float inverse_rms(const X* x, int64_t d, double eps) {
  float sum = sum_vectors(d, [=](int64_t i, auto lanes) {
    Vec value = load(x + i, lanes);
    return mul(value, value);
  });
  return 1.0f / __builtin_sqrtf(sum / static_cast<float>(d) + static_cast<float>(eps));
}

static void rms_norm(const Call& call, In x, In weight, Out y, double eps) {
  int64_t d = last_dimension(x);
  dispatch_stored({x.dtype, weight.dtype, y.dtype}, [&]<class X, class W, class Y>(Element<X>, Element<W>, Element<Y>) {
    const W* w = elements<W>(weight);
    for_rows(call, row_count(x), d, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const X* in = elements<X>(x) + row * d;
        Y* out = elements<Y>(y) + row * d;
        Vec inverse = broadcast(inverse_rms(in, d, eps));
        for_vectors(0, d, [=](int64_t i, auto lanes) {
          store(out + i, mul(mul(load(in + i, lanes), inverse), load(w + i, lanes)), lanes);
        });
      }
    });
  });
}

template <class DY, class X, class W, class DX>
static void row_backward(const DY* dy, const X* x, const W* w, DX* dx, float* dweight, int64_t d, double eps,
                         bool accumulate) {
  float inverse_scalar = inverse_rms(x, d, eps);
  float sum = sum_vectors(
      d, [=](int64_t i, auto lanes) { return mul(mul(load(w + i, lanes), load(dy + i, lanes)), load(x + i, lanes)); });
  Vec inverse = broadcast(inverse_scalar), mean = broadcast(sum * inverse_scalar / static_cast<float>(d));
  for_vectors(0, d, [=](int64_t i, auto lanes) {
    Vec normed = mul(load(x + i, lanes), inverse), gradient = load(dy + i, lanes);
    Vec change = mul(sub(mul(load(w + i, lanes), gradient), mul(normed, mean)), inverse);
    store(dx + i, accumulate ? add(load(dx + i, lanes), change) : change, lanes);
    store(dweight + i, fma(gradient, normed, load(dweight + i, lanes)), lanes);
  });
}

template <class DW>
static void add_slabs(const Call& call, const float* partial, int64_t slabs, int64_t d, DW* dweight, bool accumulate) {
  for_blocks(call, d, [=](int64_t first, int64_t last) {
    for_vectors(first, last, [=](int64_t i, auto lanes) {
      Vec sum = accumulate ? load(dweight + i, lanes) : zero();
      for (int64_t slab = 0; slab < slabs; slab++) sum = add(sum, load(partial + slab * d + i, lanes));
      store(dweight + i, sum, lanes);
    });
  });
}

static void rms_norm_backward(const Call& call, In dy, In x, In weight, InOut dx, InOut dweight, double eps,
                              bool accumulate_dx, bool accumulate_dweight) {
  int64_t d = last_dimension(x), rows = row_count(x);
  Slabs slabs = slabs_of(rows);
  float* partial = static_cast<float*>(call.workspace);
  dispatch_stored({dy.dtype, x.dtype, weight.dtype, dx.dtype},
                  [&]<class DY, class X, class W, class DX>(Element<DY>, Element<X>, Element<W>, Element<DX>) {
                    parallel_for(call, slabs.count, [&](int64_t slab, int) {
                      float* sums = partial + slab * d;
                      for_vectors(0, d, [=](int64_t i, auto lanes) { store(sums + i, zero(), lanes); });
                      for (int64_t row = slab * slabs.rows; row < smaller(slab * slabs.rows + slabs.rows, rows); row++)
                        row_backward(elements<DY>(dy) + row * d, elements<X>(x) + row * d, elements<W>(weight),
                                     elements<DX>(dx) + row * d, sums, d, eps, accumulate_dx);
                    });
                  });
  dispatch_stored({dweight.dtype}, [&]<class DW>(Element<DW>) {
    add_slabs(call, partial, slabs.count, d, elements<DW>(dweight), accumulate_dweight);
  });
}

void fill_rms_norm(Kernels& table) {
  table.rms_norm.run = rms_norm;
  table.rms_norm_backward.run = rms_norm_backward;  // the generic level's workspace
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
