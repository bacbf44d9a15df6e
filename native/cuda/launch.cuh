// Launches that skip an empty grid, which CUDA refuses.
#pragma once
#include "device.cuh"

namespace foretoken::cuda {

constexpr int kMostThreads = 1024;  // of a block

// kernel<<<columns × rows blocks, threads, 0, the call's stream>>>(arguments…). columns < 2³¹, rows < 2¹⁶.
template <class... Parameters, class... Arguments>
static inline void launch(const Call& call, int64_t columns, int64_t rows, int threads, void (*kernel)(Parameters...),
                          const Arguments&... arguments) {
  if (columns <= 0 || rows <= 0) return;
  kernel<<<dim3(static_cast<unsigned>(columns), static_cast<unsigned>(rows)), threads, 0, stream_of(call)>>>(
      arguments...);
}
template <class... Parameters, class... Arguments>
static inline void launch(const Call& call, int64_t blocks, int threads, void (*kernel)(Parameters...),
                          const Arguments&... arguments) {
  launch(call, blocks, int64_t{1}, threads, kernel, arguments...);
}

// This thread's index in a grid of one dimension.
__device__ __forceinline__ int64_t thread_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

}  // namespace foretoken::cuda
