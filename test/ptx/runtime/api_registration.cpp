// What the code that nvcc adds to every object calls: when it is loaded, and at each <<<>>>.
#include <cstdio>

#include "launch.h"

using namespace foretoken::ptx::runtime;

namespace {

FatBinary* binary_of(void** handle) { return static_cast<FatBinary*>(*handle); }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) { return &Registry::instance().add(wrapper)->self; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void** handle) { Registry::instance().remove(binary_of(handle)); }
char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  Registry::instance().add_kernel(binary_of(handle), host, name);
}

void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int, size_t bytes, int constant, int) {
  Registry::instance().add_variable(binary_of(handle), host, name, bytes, constant != 0);
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  thread_state().configurations.push_back({grid, block, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  auto& configurations = thread_state().configurations;
  if (configurations.empty()) return cudaErrorMissingConfiguration;
  const auto configuration = configurations.back();
  configurations.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

// Compiled code asks once and keeps the answer, on machines without a device too: the image is looked for at a launch.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  return call(Needs::nothing,
              [&](Runtime&, Lock&) { *kernel = reinterpret_cast<cudaKernel_t>(Registry::instance().kernel(host)); });
}
cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* host) { return __cudaGetKernel(kernel, host); }

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

}  // extern "C"
#pragma GCC visibility pop
