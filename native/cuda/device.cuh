// What the kernels of native/cuda share: views as typed pointers, dtype dispatch, launches, block sums.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "../core/call.h"
#include "../core/view.h"

namespace foretoken::cuda {

constexpr int kWarp = 32;

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int64_t round_up(int64_t a, int64_t multiple) { return ceil_div(a, multiple) * multiple; }

static inline cudaStream_t stream_of(const Call& call) { return static_cast<cudaStream_t>(call.stream); }

// The C++ type on the device of an element type.
template <class T>
struct Element {
  using type = T;
};

// body(Element<T>...) for the dtypes given, each f32 or bf16; nothing for any other.
template <int N, class Body, class... Found>
static inline void dispatch(const DType (&dtypes)[N], Body body, Element<Found>... found) {
  if constexpr (sizeof...(Found) == N) {
    body(found...);
  } else if (dtypes[sizeof...(Found)] == DType::f32) {
    dispatch(dtypes, body, found..., Element<float>());
  } else if (dtypes[sizeof...(Found)] == DType::bf16) {
    dispatch(dtypes, body, found..., Element<__nv_bfloat16>());
  }
}

// nullptr when the view was not given.
template <class T>
static inline const T* elements(const In& view) {
  return static_cast<const T*>(view.data);
}
template <class T>
static inline T* elements(const Out& view) {
  return static_cast<T*>(view.data);
}
template <class T>
static inline T* elements(const InOut& view) {
  return static_cast<T*>(view.data);
}

__device__ __forceinline__ float value_of(float x) { return x; }
__device__ __forceinline__ float value_of(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void store_value(float* to, float x) { *to = x; }
// Rounds to nearest even.
__device__ __forceinline__ void store_value(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

__device__ __forceinline__ float warp_sum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(~0u, x, offset);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, offset));
  return x;
}

// The sum over a block of kThreads, given to every thread. `shared` holds one float per warp.
template <int kThreads>
__device__ __forceinline__ float block_sum(float x, float* shared) {
  constexpr int kWarps = kThreads / kWarp;
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < kWarps; i++) sum += shared[i];
  __syncthreads();  // before `shared` is written again
  return sum;
}

}  // namespace foretoken::cuda
