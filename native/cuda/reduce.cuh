// Reductions over a block of any plain type, always in the same order.
#pragma once
#include "launch.cuh"

namespace foretoken::cuda {

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// The value of the lane whose number differs by the bits of `mask`. Types of more than one word bring their own.
template <class T>
__device__ __forceinline__ T exchange(T x, int mask) {
  return __shfl_xor_sync(~0u, x, mask);
}

// Every thread's value put together, given to all. combine(a, b) must equal combine(b, a). All threads of the block,
// whole warps in one dimension, must call.
template <class T, class Combine>
__device__ T block_reduce(T x, Combine combine) {
  __shared__ T warps[kMostThreads / kWarp];
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x = combine(x, exchange(x, mask));
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = warps[0];
  for (int i = 1; i < blockDim.x / kWarp; i++) x = combine(x, warps[i]);
  __syncthreads();  // before `warps` is written again
  return x;
}

}  // namespace foretoken::cuda
