// How many blocks fit on an SM, by NVIDIA's own occupancy calculator, which is a header of the toolkit.
#include <cuda_occupancy.h>

#include <climits>
#include <cstddef>

#include "launch.h"

namespace foretoken::ptx::runtime {
namespace {

cudaOccFuncAttributes attributes_of(const LoadedKernel& kernel) {
  cudaOccFuncAttributes attributes;
  attributes.maxThreadsPerBlock = static_cast<int>(kernel.max_threads());
  attributes.numRegs = static_cast<int>(kernel.registers);
  attributes.sharedSizeBytes = kernel.info.static_shared_bytes;
  attributes.partitionedGCConfig = PARTITIONED_GC_OFF;
  attributes.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  attributes.maxDynamicSharedSizeBytes = kernel.max_dynamic_shared;
  attributes.numBlockBarriers = 1;
  return attributes;
}

}  // namespace

int blocks_per_sm(const Card& card, const LoadedKernel& kernel, int threads, size_t dynamic_shared) {
  const cudaOccDeviceProp properties(properties_of(card));
  const cudaOccFuncAttributes attributes = attributes_of(kernel);
  const cudaOccDeviceState state;
  cudaOccResult result{};
  const cudaOccError error =
      cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &attributes, &state, threads, dynamic_shared);
  require(error == CUDA_OCC_SUCCESS, cudaErrorInvalidValue, "the occupancy of such a launch is not defined");
  return result.activeBlocksPerMultiprocessor;
}

// The calculator's own function forgets what the driver reserves of every block.
size_t available_dynamic_shared(const Card& card, const LoadedKernel& kernel, int blocks, int threads) {
  require(blocks > 0 && blocks_per_sm(card, kernel, threads, 0) >= blocks, cudaErrorInvalidValue,
          "so many blocks of such a kernel cannot be resident");
  size_t fits = 0, too_much = kernel.max_dynamic_shared + size_t{1};
  while (too_much - fits > 1) {
    const size_t middle = (fits + too_much) / 2;
    (blocks_per_sm(card, kernel, threads, middle) >= blocks ? fits : too_much) = middle;
  }
  return fits;
}

}  // namespace foretoken::ptx::runtime
