// RMS norm (arXiv 1910.07467) and its gradient. Formulas in ../cpu/generic/rms_norm.cpp.
#include "mixed_quad.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

// A block a row.
constexpr int kThreads = 128;

// body(i) for the first elements of this thread's quads of a row.
template <class Body>
__device__ __forceinline__ void for_my_quads(int64_t d, Body body) {
  for (int64_t i = kQuad * threadIdx.x; i < d; i += kQuad * kThreads) body(i);
}

// 1 / sqrt(mean(x²) + eps) of the block's row x (d).
template <class X>
__device__ float inverse_rms(const X* x, int64_t d, float eps, float* shared) {
  float sum = 0;
  for_my_quads(d, [&](int64_t i) {
    const Quad value = load_quad(x + i, d - i);
    sum = dot(value, value, sum);
  });
  return 1.0f / sqrtf(block_sum<kThreads>(sum, shared) / static_cast<float>(d) + eps);
}

// ---- rms_norm ------------------------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const T* x /*(R,d)*/, MixedQuads weight /*(d)*/, T* y /*(R,d)*/, int64_t d, float eps) {
  __shared__ float shared[kThreads / kWarp];
  x += blockIdx.x * d;
  y += blockIdx.x * d;
  const float inverse = inverse_rms(x, d, eps, shared);
  for_my_quads(d, [=](int64_t i) {
    auto norm = [=](float value, float w) { return value * inverse * w; };
    store_quad(y + i, map(norm, load_quad(x + i, d - i), weight.load(i, d - i)), d - i);
  });
}

void rms_norm(const Call& call, In x, In weight, Out y, double eps) {
  if (!all_mixed({x.dtype, weight.dtype})) return;
  if (x.dtype != y.dtype) return report_failure("x and y of different dtypes");
  dispatch({x.dtype}, [&]<class T>(Element<T>) {
    launch(call, row_count(x), kThreads, rms_norm_kernel<T>, elements<T>(x), MixedQuads(weight), elements<T>(y),
           last_dimension(x), static_cast<float>(eps));
  });
}

// ---- gradient of x: with x̂ = x/rms, dx = (w·dy − x̂·mean(w·dy·x̂))/rms ------------------------------------------------

template <class DY, class X>
__global__ void __launch_bounds__(kThreads)
    rms_norm_input_gradient_kernel(const DY* dy /*(R,d)*/, const X* x /*(R,d)*/, MixedQuads weight /*(d)*/,
                                   MixedQuads dx /*(R,d)*/, float* inverses /*(R)*/, int64_t d, float eps,
                                   bool accumulate) {
  __shared__ float shared[kThreads / kWarp];
  dy += blockIdx.x * d;
  x += blockIdx.x * d;
  const float inverse = inverse_rms(x, d, eps, shared);
  if (threadIdx.x == 0) inverses[blockIdx.x] = inverse;
  auto product = [](float a, float b) { return a * b; };
  float sum = 0;
  for_my_quads(d, [&](int64_t i) {
    const Quad change = map(product, weight.load(i, d - i), load_quad(dy + i, d - i));
    sum = dot(change, load_quad(x + i, d - i), sum);
  });
  const float mean = block_sum<kThreads>(sum, shared) * inverse / static_cast<float>(d);
  const int64_t start = blockIdx.x * d;
  for_my_quads(d, [=](int64_t i) {
    auto gradient = [=](float w, float g, float value) { return (w * g - value * inverse * mean) * inverse; };
    Quad change = map(gradient, weight.load(i, d - i), load_quad(dy + i, d - i), load_quad(x + i, d - i));
    if (accumulate) change = map([](float a, float b) { return a + b; }, dx.load(start + i, d - i), change);
    dx.store(start + i, change, d - i);
  });
}

// ---- gradient of weight: Σ_r dy[r]·x̂[r], rows in slabs, slabs in order ----------------------------------------------

constexpr int64_t kMostSlabs = 128, kFewestRows = 64;

// The last slab may be shorter.
int64_t rows_of_slab(int64_t rows) {
  const int64_t even = ceil_div(rows, kMostSlabs);
  return even > kFewestRows ? even : kFewestRows;
}
int64_t slabs_of(int64_t rows) { return ceil_div(rows, rows_of_slab(rows)); }

// One thread a column and slab.
template <class DY, class X>
__global__ void __launch_bounds__(kThreads)
    rms_norm_slab_kernel(const DY* dy /*(R,d)*/, const X* x /*(R,d)*/, const float* inverses /*(R)*/,
                         float* partial /*(slabs,d)*/, int64_t R, int64_t d, int64_t slab_rows) {
  const int64_t column = thread_index(), slab = blockIdx.y;
  if (column >= d) return;
  const int64_t end = (slab + 1) * slab_rows < R ? (slab + 1) * slab_rows : R;
  float sum = 0;
  for (int64_t row = slab * slab_rows; row < end; row++)
    sum = fmaf(value_of(dy[row * d + column]), value_of(x[row * d + column]) * inverses[row], sum);
  partial[slab * d + column] = sum;
}

__global__ void __launch_bounds__(kThreads)
    rms_norm_add_slabs_kernel(const float* partial /*(slabs,d)*/, int64_t slabs, float* dweight /*(d)*/, int64_t d,
                              bool accumulate) {
  const int64_t column = thread_index();
  if (column >= d) return;
  float sum = accumulate ? dweight[column] : 0;
  for (int64_t slab = 0; slab < slabs; slab++) sum += partial[slab * d + column];
  dweight[column] = sum;
}

// ---- rms_norm_backward ---------------------------------------------------------------------------------------------

// dy, as what is summed into it, may be f32 where x is bf16.
void rms_norm_backward(const Call& call, In dy, In x, In weight, InOut dx, InOut dweight, double eps,
                       bool accumulate_dx, bool accumulate_dweight) {
  const int64_t R = row_count(x), d = last_dimension(x), column_blocks = ceil_div(d, kThreads), slabs = slabs_of(R);
  float* inverses = static_cast<float*>(call.workspace);
  float* partial = inverses + R;
  if (!all_mixed({dy.dtype, x.dtype, weight.dtype, dx.dtype})) return;
  dispatch({dy.dtype, x.dtype}, [&]<class DY, class X>(Element<DY>, Element<X>) {
    if constexpr (sizeof(DY) < sizeof(X)) {
      report_failure("dy in bf16 with x in f32");
    } else {
      launch(call, R, kThreads, rms_norm_input_gradient_kernel<DY, X>, elements<DY>(dy), elements<X>(x),
             MixedQuads(weight), MixedQuads(dx), inverses, d, static_cast<float>(eps), accumulate_dx);
      launch(call, column_blocks, slabs, kThreads, rms_norm_slab_kernel<DY, X>, elements<DY>(dy), elements<X>(x),
             inverses, partial, R, d, rows_of_slab(R));
      launch(call, column_blocks, kThreads, rms_norm_add_slabs_kernel, partial, slabs, elements<float>(dweight), d,
             accumulate_dweight);
    }
  });
}

size_t rms_norm_backward_workspace(const Machine&, In, In x, In, InOut, InOut, double, bool, bool) {
  const int64_t R = row_count(x);
  return (R + slabs_of(R) * last_dimension(x)) * sizeof(float);
}

}  // namespace

void fill_rms_norm(Kernels& table) {
  table.rms_norm = {rms_norm};
  table.rms_norm_backward = {rms_norm_backward, rms_norm_backward_workspace};
}

}  // namespace foretoken::cuda
