// Launchers of the kernels in runtime_kernels.cu.
#pragma once
#include <cuda_runtime.h>

namespace runtime_tests {

constexpr int kBound = 128;  // threads that `bounded` was compiled for

// data[i] += value, for i < n, in one block of 32 threads.
void add(int* data, int value, int n, cudaStream_t stream);
// data[0] = what the kernel saw there plus the dynamic shared bytes; for limits only.
cudaError_t launch_bounded(dim3 grid, dim3 block, size_t shared, int* data);
const void* add_function();
const void* bounded_function();
const void* static_shared_function();  // 40,000 bytes of static shared memory
const void* clustered_function();      // int* data; any cluster size
// The device's variables.
const void* counter_symbol();  // __device__ int, initially 7
const void* table_symbol();    // __constant__ float[4], {1, 2, 3, 4}

struct Mixed {
  char letter;
  double number;
};
// Arguments of several sizes: their packing.
void mixed_arguments(char a, double b, short c, Mixed d, void* e);

}  // namespace runtime_tests
