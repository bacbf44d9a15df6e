// Kernels: launching them, what is known of them, how many fit.
#include "launch.h"

using namespace foretoken::ptx::runtime;

namespace {

cudaError_t launch_call(cudaStream_t stream, const LaunchRequest& request) {
  return call([&](Runtime& runtime, Lock& lock) { launch(runtime, lock, runtime.stream(stream), request); });
}

LoadedKernel& loaded(Runtime& runtime, const void* function) {
  return runtime.device().loader->kernel(Registry::instance().kernel(function));
}

LaunchRequest plain(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared, bool cooperative) {
  LaunchRequest request;
  request.function = function;
  request.grid = grid;
  request.block = block;
  request.arguments = arguments;
  request.dynamic_shared = shared;
  request.cooperative = cooperative;
  return request;
}

int cluster_size(const cudaLaunchConfig_t& config, const LoadedKernel& kernel) {
  const dim3 cluster = read_config(config, nullptr, nullptr).cluster;
  const uint64_t asked = uint64_t{cluster.x} * cluster.y * cluster.z;
  if (asked) return static_cast<int>(asked);
  return kernel.required_cluster.count() ? static_cast<int>(kernel.required_cluster.count()) : 1;
}

int resident_blocks(Runtime& runtime, const LoadedKernel& kernel, const cudaLaunchConfig_t& config) {
  const int threads = static_cast<int>(config.blockDim.x * config.blockDim.y * config.blockDim.z);
  const Card& card = runtime.device().card;
  return blocks_per_sm(card, kernel, threads, config.dynamicSmemBytes) * card.sm_count;
}

}  // namespace

extern "C" {

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t stream) {
  return launch_call(stream, plain(function, grid, block, arguments, shared, false));
}

cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                                        cudaStream_t stream) {
  return launch_call(stream, plain(function, grid, block, arguments, shared, true));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return call([&](Runtime& runtime, Lock& lock) {
    require(config != nullptr, cudaErrorInvalidValue, "no configuration");
    launch(runtime, lock, runtime.stream(config->stream), read_config(*config, function, arguments));
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return call([&](Runtime& runtime, Lock&) {
    require(attributes != nullptr, cudaErrorInvalidValue, "no place for the attributes");
    const LoadedKernel& kernel = loaded(runtime, function);
    *attributes = {};
    attributes->sharedSizeBytes = kernel.info.static_shared_bytes;
    attributes->localSizeBytes = kernel.info.local_bytes;
    attributes->maxThreadsPerBlock = static_cast<int>(kernel.max_threads());
    attributes->numRegs = static_cast<int>(kernel.registers);
    attributes->ptxVersion = kernel.binary->ptx_version;
    attributes->binaryVersion = kernel.binary->binary_version;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(kernel.max_dynamic_shared);
    attributes->preferredShmemCarveout = kernel.carveout;
    attributes->clusterDimMustBeSet = kernel.required_cluster.count() != 0;
    attributes->requiredClusterWidth = static_cast<int>(kernel.required_cluster.x);
    attributes->requiredClusterHeight = static_cast<int>(kernel.required_cluster.y);
    attributes->requiredClusterDepth = static_cast<int>(kernel.required_cluster.z);
    attributes->nonPortableClusterSizeAllowed = kernel.non_portable_cluster;
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return call([&](Runtime& runtime, Lock&) {
    LoadedKernel& kernel = loaded(runtime, function);
    switch (attribute) {
      case cudaFuncAttributeMaxDynamicSharedMemorySize: {
        const uint32_t most = runtime.device().card.architecture.shared_bytes_per_block;
        if (value < 0 || static_cast<uint32_t>(value) + kernel.info.static_shared_bytes > most)
          throw Error(cudaErrorInvalidValue, kernel.kernel->name + ": " + std::to_string(value) +
                                                 " bytes dynamic and " +
                                                 std::to_string(kernel.info.static_shared_bytes) +
                                                 " static shared memory, at most " + std::to_string(most) + " in all");
        kernel.max_dynamic_shared = static_cast<uint32_t>(value);
        break;
      }
      case cudaFuncAttributePreferredSharedMemoryCarveout: kernel.carveout = value; break;
      case cudaFuncAttributeNonPortableClusterSizeAllowed: kernel.non_portable_cluster = value != 0; break;
      case cudaFuncAttributeRequiredClusterWidth: kernel.required_cluster.x = static_cast<uint32_t>(value); break;
      case cudaFuncAttributeRequiredClusterHeight: kernel.required_cluster.y = static_cast<uint32_t>(value); break;
      case cudaFuncAttributeRequiredClusterDepth: kernel.required_cluster.z = static_cast<uint32_t>(value); break;
      case cudaFuncAttributeClusterSchedulingPolicyPreference: break;
      default: throw Error(cudaErrorInvalidValue, "an unknown attribute of kernels");
    }
  });
}

cudaError_t cudaFuncSetCacheConfig(const void* function, cudaFuncCache) {
  return call([&](Runtime& runtime, Lock&) { loaded(runtime, function); });
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  return call([&](Runtime&, Lock&) { *name = Registry::instance().kernel(function)->name.c_str(); });
}

cudaError_t cudaFuncGetParamInfo(const void* function, size_t index, size_t* offset, size_t* bytes) {
  return call([&](Runtime& runtime, Lock&) {
    const auto& parameters = loaded(runtime, function).info.parameters;
    require(index < parameters.size(), cudaErrorInvalidValue, "no such parameter");
    *offset = parameters[index].offset;
    if (bytes) *bytes = parameters[index].bytes;
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                   size_t shared, unsigned) {
  return call([&](Runtime& runtime, Lock&) {
    *blocks = blocks_per_sm(runtime.device().card, loaded(runtime, function), threads, shared);
  });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, const void* function, int blocks, int threads) {
  return call([&](Runtime& runtime, Lock&) {
    *bytes = available_dynamic_shared(runtime.device().card, loaded(runtime, function), blocks, threads);
  });
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* function, const cudaLaunchConfig_t* config) {
  return call([&](Runtime& runtime, Lock&) {
    const LoadedKernel& kernel = loaded(runtime, function);
    require(runtime.device().card.architecture.clusters(), cudaErrorInvalidClusterSize, "this card has no clusters");
    *clusters = resident_blocks(runtime, kernel, *config) / cluster_size(*config, kernel);
  });
}

cudaError_t cudaOccupancyMaxPotentialClusterSize(int* size, const void* function, const cudaLaunchConfig_t* config) {
  return call([&](Runtime& runtime, Lock&) {
    const LoadedKernel& kernel = loaded(runtime, function);
    require(runtime.device().card.architecture.clusters(), cudaErrorInvalidClusterSize, "this card has no clusters");
    const int most = kernel.non_portable_cluster ? kMaxClusterSize : kMaxPortableClusterSize;
    *size = std::min(most, resident_blocks(runtime, kernel, *config));
  });
}

}  // extern "C"
