#include "launch.h"

#include <cstring>

namespace foretoken::ptx::runtime {
namespace {

Dimensions dimensions(const dim3& from) { return {from.x, from.y, from.z}; }

std::string text(const Dimensions& d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

[[noreturn]] void refuse(cudaError_t code, const LoadedKernel& kernel, const std::string& why) {
  throw Error(code, "launch of " + kernel.kernel->name + ": " + why);
}

void check_shape(const cudaDeviceProp& properties, const LoadedKernel& kernel, const Dimensions& grid,
                 const Dimensions& block) {
  const auto within = [](const Dimensions& d, const int* limit) {
    return d.count() != 0 && d.x <= static_cast<uint32_t>(limit[0]) && d.y <= static_cast<uint32_t>(limit[1]) &&
           d.z <= static_cast<uint32_t>(limit[2]);
  };
  if (!within(grid, properties.maxGridSize))
    refuse(cudaErrorInvalidConfiguration, kernel, "a grid of " + text(grid) + " blocks");
  if (!within(block, properties.maxThreadsDim) || block.count() > kMaxThreadsPerBlock)
    refuse(cudaErrorInvalidConfiguration, kernel, "a block of " + text(block) + " threads");
}

void check_threads(const LoadedKernel& kernel, const Dimensions& block) {
  const Dimensions& required = kernel.info.required_threads;
  if (required.count() && (required.x != block.x || required.y != block.y || required.z != block.z))
    refuse(cudaErrorInvalidValue, kernel, "a block of " + text(block) + " threads, but it needs " + text(required));
  if (kernel.info.max_threads && block.count() > kernel.info.max_threads)
    refuse(cudaErrorInvalidValue, kernel,
           std::to_string(block.count()) + " threads a block, but its launch bounds are " +
               std::to_string(kernel.info.max_threads));
  if (block.count() > kernel.max_threads())
    refuse(cudaErrorLaunchOutOfResources, kernel,
           std::to_string(block.count()) + " threads a block with " + std::to_string(kernel.registers) +
               " registers each");
}

void check_shared(const LoadedKernel& kernel, size_t dynamic_shared) {
  if (dynamic_shared > kernel.max_dynamic_shared)
    refuse(cudaErrorInvalidValue, kernel,
           std::to_string(dynamic_shared) + " bytes of dynamic shared memory with " +
               std::to_string(kernel.info.static_shared_bytes) + " static, but it has opted in to " +
               std::to_string(kernel.max_dynamic_shared));
}

Dimensions cluster_of(const Card& card, const LoadedKernel& kernel, const dim3& asked, const Dimensions& grid) {
  const Dimensions& required = kernel.required_cluster;
  Dimensions cluster = dimensions(asked);
  if (cluster.count() && required.count() &&
      (cluster.x != required.x || cluster.y != required.y || cluster.z != required.z))
    refuse(cudaErrorInvalidClusterSize, kernel, "clusters of " + text(cluster) + ", but it needs " + text(required));
  if (!cluster.count()) cluster = required.count() ? required : Dimensions{1, 1, 1};
  if (cluster.count() == 1) return cluster;
  if (!card.architecture.clusters()) refuse(cudaErrorInvalidClusterSize, kernel, "this card has no clusters");
  const int most = kernel.non_portable_cluster ? kMaxClusterSize : kMaxPortableClusterSize;
  if (cluster.count() > static_cast<uint64_t>(most))
    refuse(
        cudaErrorInvalidClusterSize, kernel,
        "clusters of " + std::to_string(cluster.count()) + " blocks, at most " + std::to_string(most) + " are allowed");
  if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z)
    refuse(cudaErrorInvalidClusterSize, kernel, "a grid of " + text(grid) + " in clusters of " + text(cluster));
  return cluster;
}

std::vector<std::byte> pack(const LoadedKernel& kernel, void** arguments) {
  std::vector<std::byte> packed(kernel.info.parameter_bytes);
  for (size_t i = 0; i < kernel.info.parameters.size(); i++) {
    const KernelInfo::Parameter& parameter = kernel.info.parameters[i];
    std::memcpy(packed.data() + parameter.offset, arguments[i], parameter.bytes);
  }
  return packed;
}

}  // namespace

void launch(Runtime& runtime, Lock& lock, Stream& stream, const LaunchRequest& request) {
  Device& device = *stream.device;
  require(&device == &runtime.device(), cudaErrorInvalidResourceHandle, "the stream is not of the current device");
  const Card& card = device.card;
  LoadedKernel& kernel = device.loader->kernel(Registry::instance().kernel(request.function));
  auto work = std::make_shared<KernelWork>();
  work->kernel = &kernel;
  work->grid = dimensions(request.grid);
  work->block = dimensions(request.block);
  check_shape(properties_of(card), kernel, work->grid, work->block);
  check_threads(kernel, work->block);
  check_shared(kernel, request.dynamic_shared);
  work->cluster = cluster_of(card, kernel, request.cluster, work->grid);
  const int threads = static_cast<int>(work->block.count());
  const int resident = blocks_per_sm(card, kernel, threads, request.dynamic_shared);
  if (resident == 0) refuse(cudaErrorLaunchOutOfResources, kernel, "not even one block fits on an SM");
  const uint64_t all_resident = static_cast<uint64_t>(resident) * static_cast<uint64_t>(card.sm_count);
  if (request.cooperative && work->grid.count() > all_resident)
    refuse(
        cudaErrorCooperativeLaunchTooLarge, kernel,
        std::to_string(work->grid.count()) + " blocks, of which " + std::to_string(all_resident) + " can be resident");
  if (work->cluster.count() > all_resident)
    refuse(cudaErrorInvalidClusterSize, kernel, "no whole cluster fits on this card");
  work->dynamic_shared_bytes = static_cast<uint32_t>(request.dynamic_shared);
  work->blocks_per_sm = static_cast<uint32_t>(resident);
  work->cooperative = request.cooperative;
  work->parameters = pack(kernel, request.arguments);
  runtime.enqueue(lock, stream, std::move(work));
}

LaunchRequest read_config(const cudaLaunchConfig_t& config, const void* function, void** arguments) {
  LaunchRequest request;
  request.function = function;
  request.grid = config.gridDim;
  request.block = config.blockDim;
  request.dynamic_shared = config.dynamicSmemBytes;
  request.arguments = arguments;
  for (unsigned i = 0; i < config.numAttrs; i++) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    switch (attribute.id) {
      case cudaLaunchAttributeClusterDimension:
        request.cluster = {attribute.val.clusterDim.x, attribute.val.clusterDim.y, attribute.val.clusterDim.z};
        break;
      case cudaLaunchAttributeCooperative: request.cooperative = attribute.val.cooperative != 0; break;
      // Permissions and hints: the order without them is always one of those allowed.
      case cudaLaunchAttributeIgnore:
      case cudaLaunchAttributeProgrammaticStreamSerialization:
      case cudaLaunchAttributeClusterSchedulingPolicyPreference:
      case cudaLaunchAttributePriority:
      case cudaLaunchAttributeAccessPolicyWindow:
      case cudaLaunchAttributePreferredSharedMemoryCarveout:
      case cudaLaunchAttributePreferredClusterDimension:
      case cudaLaunchAttributeMemSyncDomain:
      case cudaLaunchAttributeMemSyncDomainMap: break;
      default:
        throw Error(cudaErrorNotSupported,
                    "launch attribute " + std::to_string(attribute.id) + " is not implemented here");
    }
  }
  return request;
}

}  // namespace foretoken::ptx::runtime
