// RMS norm (arXiv 1910.07467) as plain loops: the specification.
#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {

// 1 / sqrt(mean(x²) + eps)
template <class X>
static Arithmetic<X> inverse_rms(const X* x, int64_t d, double eps) {
  using A = Arithmetic<X>;
  A sum = 0;
  for (int64_t i = 0; i < d; i++) sum += value_of(x[i]) * value_of(x[i]);
  return A(1) / std::sqrt(sum / static_cast<A>(d) + static_cast<A>(eps));
}

static void rms_norm(const Call& call, In x, In weight, Out y, double eps) {
  int64_t d = last_dimension(x);
  dispatch_alike({x.dtype, weight.dtype, y.dtype}, [&]<class X, class W, class Y>(Element<X>, Element<W>, Element<Y>) {
    const W* w = elements<W>(weight);
    for_rows(call, row_count(x), d, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const X* in = elements<X>(x) + row * d;
        Y* out = elements<Y>(y) + row * d;
        auto inverse = inverse_rms(in, d, eps);
        for (int64_t i = 0; i < d; i++) store_scalar(out + i, value_of(in[i]) * inverse * value_of(w[i]));
      }
    });
  });
}

// With x̂ = x/rms: dx = (w·dy − x̂·mean(w·dy·x̂))/rms; dweight gets dy·x̂.
template <class DY, class X, class W, class DX>
static void row_backward(const DY* dy, const X* x, const W* w, DX* dx, Arithmetic<X>* dweight, int64_t d, double eps,
                         bool accumulate) {
  using A = Arithmetic<X>;
  A inverse = inverse_rms(x, d, eps);
  A sum = 0;
  for (int64_t i = 0; i < d; i++) sum += value_of(w[i]) * value_of(dy[i]) * value_of(x[i]);
  A mean = sum * inverse / static_cast<A>(d);
  for (int64_t i = 0; i < d; i++) {
    A normed = value_of(x[i]) * inverse, gradient = value_of(dy[i]);
    A change = (value_of(w[i]) * gradient - normed * mean) * inverse;
    store_scalar(dx + i, accumulate ? value_of(dx[i]) + change : change);
    dweight[i] += gradient * normed;
  }
}

// dweight (+)= the slabs' partial sums, added in order.
template <class A, class DW>
static void add_slabs(const Call& call, const A* partial, int64_t slabs, int64_t d, DW* dweight, bool accumulate) {
  for_blocks(call, d, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      A sum = accumulate ? static_cast<A>(value_of(dweight[i])) : A(0);
      for (int64_t slab = 0; slab < slabs; slab++) sum += partial[slab * d + i];
      store_scalar(dweight + i, sum);
    }
  });
}

static void rms_norm_backward(const Call& call, In dy, In x, In weight, InOut dx, InOut dweight, double eps,
                              bool accumulate_dx, bool accumulate_dweight) {
  int64_t d = last_dimension(x), rows = row_count(x);
  Slabs slabs = slabs_of(rows);
  dispatch_alike({dy.dtype, x.dtype, weight.dtype, dx.dtype},
                 [&]<class DY, class X, class W, class DX>(Element<DY>, Element<X>, Element<W>, Element<DX>) {
                   using A = Arithmetic<X>;
                   A* partial = static_cast<A*>(call.workspace);
                   parallel_for(call, slabs.count, [&](int64_t slab, int) {
                     A* sums = partial + slab * d;
                     for (int64_t i = 0; i < d; i++) sums[i] = 0;
                     for (int64_t row = slab * slabs.rows; row < smaller(slab * slabs.rows + slabs.rows, rows); row++)
                       row_backward(elements<DY>(dy) + row * d, elements<X>(x) + row * d, elements<W>(weight),
                                    elements<DX>(dx) + row * d, sums, d, eps, accumulate_dx);
                   });
                   dispatch(dweight.dtype, [&]<class DW>(Element<DW>) {
                     add_slabs(call, partial, slabs.count, d, elements<DW>(dweight), accumulate_dweight);
                   });
                 });
}

static size_t rms_norm_backward_workspace(const Machine&, In, In x, In, InOut, InOut, double, bool, bool) {
  int64_t bytes = x.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return slabs_of(row_count(x)).count * last_dimension(x) * bytes;
}

void fill_rms_norm(Kernels& table) {
  table.rms_norm = {rms_norm};
  table.rms_norm_backward = {rms_norm_backward, rms_norm_backward_workspace};
}

}  // namespace foretoken::generic
