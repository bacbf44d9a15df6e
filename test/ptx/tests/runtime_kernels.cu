// Small kernels for the tests of the stand-in runtime; most of those tests put an executor of their own behind it.
#include "runtime_kernels.h"

__device__ int runtime_counter = 7;
__constant__ float runtime_table[4] = {1, 2, 3, 4};

extern "C" {

__global__ void runtime_add(int* data, int value, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) data[i] += value;
}

__global__ void __launch_bounds__(runtime_tests::kBound) runtime_bounded(int* data) {
  extern __shared__ int dynamic[];
  dynamic[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}

__global__ void runtime_static_shared(int* data) {
  __shared__ int kept[10000];
  extern __shared__ int dynamic[];
  kept[threadIdx.x] = data[threadIdx.x];
  dynamic[threadIdx.x] = runtime_counter;
  __syncthreads();
  data[threadIdx.x] =
      kept[blockDim.x - 1 - threadIdx.x] + dynamic[0] + static_cast<int>(runtime_table[threadIdx.x & 3]);
}

__global__ void runtime_clustered(int* data) { data[blockIdx.x] = static_cast<int>(gridDim.x); }

__global__ void runtime_mixed(char a, double b, short c, runtime_tests::Mixed d, int* e) {
  *e = static_cast<int>(a + b + c + d.letter + d.number);
}

}  // extern "C"

namespace runtime_tests {

void add(int* data, int value, int n, cudaStream_t stream) { runtime_add<<<1, 32, 0, stream>>>(data, value, n); }

cudaError_t launch_bounded(dim3 grid, dim3 block, size_t shared, int* data) {
  cudaGetLastError();  // what failed before is not of this launch
  runtime_bounded<<<grid, block, shared>>>(data);
  return cudaGetLastError();
}

const void* add_function() { return reinterpret_cast<const void*>(runtime_add); }
const void* bounded_function() { return reinterpret_cast<const void*>(runtime_bounded); }
const void* static_shared_function() { return reinterpret_cast<const void*>(runtime_static_shared); }
const void* clustered_function() { return reinterpret_cast<const void*>(runtime_clustered); }
const void* counter_symbol() { return &runtime_counter; }
const void* table_symbol() { return runtime_table; }

void mixed_arguments(char a, double b, short c, Mixed d, void* e) {
  runtime_mixed<<<1, 1>>>(a, b, c, d, static_cast<int*>(e));
}

}  // namespace runtime_tests
