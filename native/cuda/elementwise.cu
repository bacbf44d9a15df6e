// fill, cast, add, scale, multiply, accumulate, random_normal, gather_rows. Formulas in ../cpu/generic/elementwise.cpp.
#include "normal.cuh"
#include "quad.cuh"
#include "row_copy.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = kElementwiseThreads;

// ---- scalars, kStrided a thread and a block apart ------------------------------------------------------------------

constexpr int kStrided = 4;

int64_t strided_blocks(int64_t count) { return ceil_div(count, kThreads * kStrided); }

// body(i) for this thread's elements of [0, count).
template <class Body>
__device__ __forceinline__ void for_my_elements(int64_t count, Body body) {
  const int64_t first = int64_t{blockIdx.x} * kThreads * kStrided + threadIdx.x;
#pragma unroll
  for (int k = 0; k < kStrided; k++)
    if (first + k * kThreads < count) body(first + k * kThreads);
}

// ---- fill: y = value -----------------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* y /*(count)*/, T value, int64_t count) {
  for_my_elements(count, [=](int64_t i) { y[i] = value; });
}

template <class T>
void fill_elements(const Call& call, const Out& y, T value) {
  const int64_t count = element_count(y);
  launch(call, strided_blocks(count), kThreads, fill_kernel<T>, elements<T>(y), value, count);
}

void fill(const Call& call, Out y, double value) {
  switch (y.dtype) {
    case DType::f32: return fill_elements(call, y, static_cast<float>(value));
    case DType::bf16: return fill_elements(call, y, __double2bfloat16(value));
    case DType::f64: return fill_elements(call, y, value);
    case DType::i32: return fill_elements(call, y, static_cast<int32_t>(value));
    case DType::u8: return fill_elements(call, y, static_cast<uint8_t>(value));
  }
}

// ---- cast: y = x ---------------------------------------------------------------------------------------------------

__device__ double arithmetic_of(double x) { return x; }
template <class T>
__device__ float arithmetic_of(T x) {
  return value_of(x);
}

template <class X>
__device__ void store_rounded(double* y, X x) {
  *y = x;
}
template <class X>
__device__ void store_rounded(float* y, X x) {
  *y = static_cast<float>(x);
}
// A NaN stays the NaN it is, as on the CPU; the conversion of the hardware has but one.
__device__ void store_rounded(__nv_bfloat16* y, float x) {
  const uint16_t nan = __float_as_uint(x) >> 16 | 0x40;
  *y = isnan(x) ? __ushort_as_bfloat16(nan) : __float2bfloat16_rn(x);
}
// Through a float rounded to odd: rounding twice to nearest would turn near-ties into ties.
__device__ void store_rounded(__nv_bfloat16* y, double x) {
  const float truncated = __double2float_rz(x);
  const uint32_t inexact = static_cast<double>(truncated) != x;
  store_rounded(y, __uint_as_float(__float_as_uint(truncated) | inexact));
}

template <class X, class Y>
__global__ void __launch_bounds__(kThreads) cast_kernel(const X* x, Y* y /*(count)*/, int64_t count) {
  for_my_elements(count, [=](int64_t i) { store_rounded(y + i, arithmetic_of(x[i])); });
}

template <class X>
void cast_from(const Call& call, const In& x, const Out& y) {
  const int64_t count = element_count(y), blocks = strided_blocks(count);
  if (y.dtype == DType::f64)
    launch(call, blocks, kThreads, cast_kernel<X, double>, elements<X>(x), elements<double>(y), count);
  dispatch({y.dtype}, [&]<class Y>(Element<Y>) {
    launch(call, blocks, kThreads, cast_kernel<X, Y>, elements<X>(x), elements<Y>(y), count);
  });
}

void cast(const Call& call, In x, Out y) {
  if (x.dtype == y.dtype) {
    cudaMemcpyAsync(y.data, x.data, element_count(y) * bytes_per_element(y.dtype), cudaMemcpyDeviceToDevice,
                    stream_of(call));
    return;
  }
  if (x.dtype == DType::f64) cast_from<double>(call, x, y);
  dispatch({x.dtype}, [&]<class X>(Element<X>) { cast_from<X>(call, x, y); });
}

// ---- add: y = a + b ------------------------------------------------------------------------------------------------

template <class A, class B, class Y>
__global__ void __launch_bounds__(kThreads) add_kernel(const A* a, const B* b, Y* y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  auto sum = [](float p, float q) { return p + q; };
  store_quad(y + i, map(sum, load_quad(a + i, left), load_quad(b + i, left)), left);
}

void add(const Call& call, In a, In b, Out y) {
  const int64_t count = element_count(y);
  dispatch({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    launch(call, quad_blocks(count), kThreads, add_kernel<A, B, Y>, elements<A>(a), elements<B>(b), elements<Y>(y),
           count);
  });
}

// ---- scale: y = alpha·x --------------------------------------------------------------------------------------------

template <class X, class Y>
__global__ void __launch_bounds__(kThreads) scale_kernel(const X* x, float alpha, Y* y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  store_quad(y + i, map([=](float p) { return alpha * p; }, load_quad(x + i, left)), left);
}

void scale(const Call& call, In x, double alpha, Out y) {
  const int64_t count = element_count(y);
  dispatch({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    launch(call, quad_blocks(count), kThreads, scale_kernel<X, Y>, elements<X>(x), static_cast<float>(alpha),
           elements<Y>(y), count);
  });
}

// ---- multiply: y = a·b, b of a's shape or one element --------------------------------------------------------------

template <class A, class B, class Y>
__global__ void __launch_bounds__(kThreads)
    multiply_kernel(const A* a, const B* b, bool one /*element in b*/, Y* y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  Quad factor;
  if (one) {
    const float value = value_of(*b);
    factor = {{value, value, value, value}};
  } else {
    factor = load_quad(b + i, left);
  }
  auto product = [](float p, float q) { return p * q; };
  store_quad(y + i, map(product, load_quad(a + i, left), factor), left);
}

void multiply(const Call& call, In a, In b, Out y) {
  const int64_t count = element_count(y);
  const bool one = element_count(b) == 1;
  dispatch({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    launch(call, quad_blocks(count), kThreads, multiply_kernel<A, B, Y>, elements<A>(a), elements<B>(b), one,
           elements<Y>(y), count);
  });
}

// ---- accumulate: y += alpha·x --------------------------------------------------------------------------------------

template <class X, class Y>
__global__ void __launch_bounds__(kThreads)
    accumulate_kernel(const X* x, float alpha, Y* y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  auto sum = [=](float p, float q) { return fmaf(alpha, p, q); };
  store_quad(y + i, map(sum, load_quad(x + i, left), load_quad(y + i, left)), left);
}

void accumulate(const Call& call, In x, double alpha, InOut y) {
  const int64_t count = element_count(y);
  dispatch({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    launch(call, quad_blocks(count), kThreads, accumulate_kernel<X, Y>, elements<X>(x), static_cast<float>(alpha),
           elements<Y>(y), count);
  });
}

// ---- random_normal: y[i] = mean + std·normal(Philox(seed, stream, i)) ----------------------------------------------

template <class Y>
__global__ void __launch_bounds__(kThreads)
    random_normal_kernel(Y* y /*(count)*/, double mean, double std, uint64_t seed, uint64_t stream, int64_t count) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const Rounded number = device_normal(device_philox(seed, stream, i));
  store_rounded(y + i, (Rounded(mean) + Rounded(std) * number).value);
}

void random_normal(const Call& call, Out y, double mean, double std, int64_t seed, int64_t stream) {
  const int64_t count = element_count(y);
  dispatch({y.dtype}, [&]<class Y>(Element<Y>) {
    launch(call, ceil_div(count, kThreads), kThreads, random_normal_kernel<Y>, elements<Y>(y), mean, std,
           static_cast<uint64_t>(seed), static_cast<uint64_t>(stream), count);
  });
}

// ---- gather_rows: y[m] = x[index[m]], zeros where the index is outside ---------------------------------------------

// One warp a row.
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(const char* x /*(rows, bytes)*/, const int32_t* index /*(M)*/, char* y /*(M, bytes)*/,
                       int64_t rows, int64_t M, int64_t bytes) {
  const int64_t m = thread_index() / kWarp;
  if (m >= M) return;
  const int64_t source = index[m];
  warp_copy(y + m * bytes, source >= 0 && source < rows ? x + source * bytes : nullptr, bytes);
}

void gather_rows(const Call& call, In x, In index, Out y) {
  const int64_t M = element_count(index), bytes = last_dimension(x) * bytes_per_element(x.dtype);
  launch(call, ceil_div(M, kThreads / kWarp), kThreads, gather_rows_kernel, elements<char>(x), elements<int32_t>(index),
         elements<char>(y), row_count(x), M, bytes);
}

}  // namespace

void fill_elementwise(Kernels& table) {
  table.fill = {fill};
  table.cast = {cast};
  table.add = {add};
  table.scale = {scale};
  table.multiply = {multiply};
  table.accumulate = {accumulate};
  table.random_normal = {random_normal};
  table.gather_rows = {gather_rows};
}

}  // namespace foretoken::cuda
