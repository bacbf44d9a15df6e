// Four neighbouring elements as floats: what a thread of a memory-bound kernel takes at a time. Which thread takes
// which elements never depends on alignment, so that sums do not either; only the width of the access does.
#pragma once
#include "launch.cuh"

namespace foretoken::cuda {

constexpr int kQuad = 4;

struct Quad {
  float v[kQuad];
};

template <class T>
__device__ __forceinline__ bool quad_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (kQuad * sizeof(T)) == 0;
}

// ---- loads ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ Quad load_vector(const float* p) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  return {{x.x, x.y, x.z, x.w}};
}
__device__ __forceinline__ Quad load_vector(const __nv_bfloat16* p) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  return {{__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u), __uint_as_float(x.y << 16),
           __uint_as_float(x.y & 0xffff0000u)}};
}

// p[0 … 3], of which `left` exist; zeros for the others.
template <class T>
__device__ __forceinline__ Quad load_quad(const T* p, int64_t left) {
  if (left >= kQuad && quad_aligned(p)) return load_vector(p);
  Quad x = {};
#pragma unroll
  for (int i = 0; i < kQuad; i++)
    if (i < left) x.v[i] = value_of(p[i]);
  return x;
}

// ---- stores --------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void store_vector(float* p, const Quad& x) {
  __stwb(reinterpret_cast<float4*>(p), make_float4(x.v[0], x.v[1], x.v[2], x.v[3]));
}
__device__ __forceinline__ void store_vector(__nv_bfloat16* p, const Quad& x) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]), high = __floats2bfloat162_rn(x.v[2], x.v[3]);
  __stwb(reinterpret_cast<uint2*>(p),
         make_uint2(*reinterpret_cast<const uint32_t*>(&low), *reinterpret_cast<const uint32_t*>(&high)));
}

// The first `left` of p[0 … 3] = x.
template <class T>
__device__ __forceinline__ void store_quad(T* p, const Quad& x, int64_t left) {
  if (left >= kQuad && quad_aligned(p)) return store_vector(p, x);
#pragma unroll
  for (int i = 0; i < kQuad; i++)
    if (i < left) store_value(p + i, x.v[i]);
}

// ---- arithmetic ----------------------------------------------------------------------------------------------------

// f of the elements of one or more quads.
template <class Function, class... Quads>
__device__ __forceinline__ Quad map(Function f, const Quads&... x) {
  Quad y;
#pragma unroll
  for (int i = 0; i < kQuad; i++) y.v[i] = f(x.v[i]...);
  return y;
}

// sum + Σ a·b.
__device__ __forceinline__ float dot(const Quad& a, const Quad& b, float sum) {
#pragma unroll
  for (int i = 0; i < kQuad; i++) sum = fmaf(a.v[i], b.v[i], sum);
  return sum;
}

// ---- element-wise kernels: one quad a thread -----------------------------------------------------------------------

constexpr int kElementwiseThreads = 256;

static inline int64_t quad_blocks(int64_t count) { return ceil_div(count, kElementwiseThreads * kQuad); }

// The first element of this thread's quad.
__device__ __forceinline__ int64_t quad_index() { return kQuad * thread_index(); }

}  // namespace foretoken::cuda
