// fill, cast, add, scale, multiply, accumulate, random_normal, gather_rows. Formulas in ../cpu/generic/elementwise.cpp.
#include "mixed_quad.cuh"
#include "normal.cuh"
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

template <class X, class Y>
void cast_elements(const Call& call, const In& x, const Out& y) {
  const int64_t count = element_count(y);
  launch(call, strided_blocks(count), kThreads, cast_kernel<X, Y>, elements<X>(x), elements<Y>(y), count);
}

void cast(const Call& call, In x, Out y) {
  auto is = [&](DType from, DType to) { return x.dtype == from && y.dtype == to; };
  if (x.dtype == y.dtype)
    cudaMemcpyAsync(y.data, x.data, element_count(y) * bytes_per_element(y.dtype), cudaMemcpyDeviceToDevice,
                    stream_of(call));
  else if (is(DType::f32, DType::bf16))
    cast_elements<float, __nv_bfloat16>(call, x, y);
  else if (is(DType::bf16, DType::f32))
    cast_elements<__nv_bfloat16, float>(call, x, y);
  else if (is(DType::f32, DType::f64))
    cast_elements<float, double>(call, x, y);
  else if (is(DType::bf16, DType::f64))
    cast_elements<__nv_bfloat16, double>(call, x, y);
  else if (is(DType::f64, DType::f32))
    cast_elements<double, float>(call, x, y);
  else if (is(DType::f64, DType::bf16))
    cast_elements<double, __nv_bfloat16>(call, x, y);
  else
    report_failure("x and y must have one dtype, or be f32, bf16 or f64 each");
}

// ---- add: y = a + b ------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    add_kernel(MixedQuads a, MixedQuads b, MixedQuads y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  auto sum = [](float p, float q) { return p + q; };
  y.store(i, map(sum, a.load(i, left), b.load(i, left)), left);
}

void add(const Call& call, In a, In b, Out y) {
  const int64_t count = element_count(y);
  if (!all_mixed({a.dtype, b.dtype, y.dtype})) return;
  launch(call, quad_blocks(count), kThreads, add_kernel, MixedQuads(a), MixedQuads(b), MixedQuads(y), count);
}

// ---- scale: y = alpha·x --------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    scale_kernel(MixedQuads x, float alpha, MixedQuads y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  y.store(i, map([=](float p) { return alpha * p; }, x.load(i, left)), left);
}

void scale(const Call& call, In x, double alpha, Out y) {
  const int64_t count = element_count(y);
  if (!all_mixed({x.dtype, y.dtype})) return;
  launch(call, quad_blocks(count), kThreads, scale_kernel, MixedQuads(x), static_cast<float>(alpha), MixedQuads(y),
         count);
}

// ---- multiply: y = a·b, b of a's shape or one element --------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    multiply_kernel(MixedQuads a, MixedQuads b, bool one /*element in b*/, MixedQuads y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  Quad factor = one ? b.load(0, 1) : b.load(i, left);
  if (one) factor = {{factor.v[0], factor.v[0], factor.v[0], factor.v[0]}};
  auto product = [](float p, float q) { return p * q; };
  y.store(i, map(product, a.load(i, left), factor), left);
}

void multiply(const Call& call, In a, In b, Out y) {
  const int64_t count = element_count(y);
  const bool one = element_count(b) == 1;
  if (!all_mixed({a.dtype, b.dtype, y.dtype})) return;
  launch(call, quad_blocks(count), kThreads, multiply_kernel, MixedQuads(a), MixedQuads(b), one, MixedQuads(y), count);
}

// ---- accumulate: y += alpha·x --------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    accumulate_kernel(MixedQuads x, float alpha, MixedQuads y /*(count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  auto sum = [=](float p, float q) { return fmaf(alpha, p, q); };
  y.store(i, map(sum, x.load(i, left), y.load(i, left)), left);
}

void accumulate(const Call& call, In x, double alpha, InOut y) {
  const int64_t count = element_count(y);
  if (!all_mixed({x.dtype, y.dtype})) return;
  launch(call, quad_blocks(count), kThreads, accumulate_kernel, MixedQuads(x), static_cast<float>(alpha), MixedQuads(y),
         count);
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
