#include "card.h"

#include <cstring>

namespace foretoken::ptx::runtime {
namespace {

constexpr int kMaxGridX = 2147483647, kMaxGridYZ = 65535;
constexpr int kClockKilohertz = 1410000;

// 7.5 is there to be refused as too old.
constexpr Architecture kArchitectures[] = {
    {7, 5, 64 << 10, 64 << 10, 1024, 16, 4 << 20},      {8, 0, 164 << 10, 163 << 10, 2048, 32, 40 << 20},
    {8, 9, 100 << 10, 99 << 10, 1536, 24, 72 << 20},    {9, 0, 228 << 10, 227 << 10, 2048, 32, 50 << 20},
    {10, 0, 228 << 10, 227 << 10, 2048, 32, 126 << 20}, {12, 0, 100 << 10, 99 << 10, 1536, 24, 96 << 20},
};

}  // namespace

const Architecture* find_architecture(int version) {
  for (const Architecture& architecture : kArchitectures)
    if (architecture.version() == version) return &architecture;
  return nullptr;
}

std::string Card::name() const { return "PTX software GPU sm_" + std::to_string(architecture.version()); }

cudaDeviceProp properties_of(const Card& card) {
  const Architecture& architecture = card.architecture;
  cudaDeviceProp properties;
  std::memset(&properties, 0, sizeof(properties));
  std::strncpy(properties.name, card.name().c_str(), sizeof(properties.name) - 1);
  std::memcpy(properties.uuid.bytes, "ptx-software-gpu", sizeof(properties.uuid.bytes));
  properties.uuid.bytes[15] = static_cast<char>(card.index);
  properties.totalGlobalMem = card.memory_bytes;
  properties.sharedMemPerBlock = kSharedBytesByDefault;
  properties.regsPerBlock = kRegistersPerSm;
  properties.warpSize = 32;
  properties.memPitch = 2147483647;
  properties.maxThreadsPerBlock = kMaxThreadsPerBlock;
  properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = kMaxThreadsPerBlock;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = kMaxGridX;
  properties.maxGridSize[1] = properties.maxGridSize[2] = kMaxGridYZ;
  properties.totalConstMem = 64 << 10;
  properties.major = architecture.major;
  properties.minor = architecture.minor;
  properties.textureAlignment = 512;
  properties.texturePitchAlignment = 32;
  properties.multiProcessorCount = card.sm_count;
  properties.concurrentKernels = 1;
  properties.pciBusID = card.index + 1;
  properties.asyncEngineCount = 3;
  properties.unifiedAddressing = 1;
  properties.memoryBusWidth = 5120;
  properties.l2CacheSize = static_cast<int>(architecture.l2_bytes);
  properties.maxThreadsPerMultiProcessor = static_cast<int>(architecture.threads_per_sm);
  properties.streamPrioritiesSupported = 1;
  properties.globalL1CacheSupported = 1;
  properties.localL1CacheSupported = 1;
  properties.sharedMemPerMultiprocessor = architecture.shared_bytes_per_sm;
  properties.regsPerMultiprocessor = kRegistersPerSm;
  properties.computePreemptionSupported = 1;
  properties.cooperativeLaunch = 1;
  properties.sharedMemPerBlockOptin = architecture.shared_bytes_per_block;
  properties.maxBlocksPerMultiProcessor = static_cast<int>(architecture.blocks_per_sm);
  properties.reservedSharedMemPerBlock = kReservedSharedBytes;
  properties.hostRegisterSupported = 1;
  properties.memoryPoolsSupported = 1;
  properties.clusterLaunch = architecture.clusters();
  properties.deviceNumaId = properties.hostNumaId = -1;
  return properties;
}

bool attribute_of(const Card& card, cudaDeviceAttr attribute, int& value) {
  const cudaDeviceProp properties = properties_of(card);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: value = properties.maxThreadsPerBlock; return true;
    case cudaDevAttrMaxBlockDimX: value = properties.maxThreadsDim[0]; return true;
    case cudaDevAttrMaxBlockDimY: value = properties.maxThreadsDim[1]; return true;
    case cudaDevAttrMaxBlockDimZ: value = properties.maxThreadsDim[2]; return true;
    case cudaDevAttrMaxGridDimX: value = properties.maxGridSize[0]; return true;
    case cudaDevAttrMaxGridDimY: value = properties.maxGridSize[1]; return true;
    case cudaDevAttrMaxGridDimZ: value = properties.maxGridSize[2]; return true;
    case cudaDevAttrMaxSharedMemoryPerBlock: value = static_cast<int>(properties.sharedMemPerBlock); return true;
    case cudaDevAttrTotalConstantMemory: value = static_cast<int>(properties.totalConstMem); return true;
    case cudaDevAttrWarpSize: value = properties.warpSize; return true;
    case cudaDevAttrMaxPitch: value = static_cast<int>(properties.memPitch); return true;
    case cudaDevAttrMaxRegistersPerBlock: value = properties.regsPerBlock; return true;
    case cudaDevAttrClockRate: value = kClockKilohertz; return true;
    case cudaDevAttrMemoryClockRate: value = kClockKilohertz; return true;
    case cudaDevAttrTextureAlignment: value = static_cast<int>(properties.textureAlignment); return true;
    case cudaDevAttrTexturePitchAlignment: value = static_cast<int>(properties.texturePitchAlignment); return true;
    case cudaDevAttrGpuOverlap: value = 1; return true;
    case cudaDevAttrMultiProcessorCount: value = properties.multiProcessorCount; return true;
    case cudaDevAttrConcurrentKernels: value = properties.concurrentKernels; return true;
    case cudaDevAttrPciBusId: value = properties.pciBusID; return true;
    case cudaDevAttrAsyncEngineCount: value = properties.asyncEngineCount; return true;
    case cudaDevAttrUnifiedAddressing: value = properties.unifiedAddressing; return true;
    case cudaDevAttrGlobalMemoryBusWidth: value = properties.memoryBusWidth; return true;
    case cudaDevAttrL2CacheSize: value = properties.l2CacheSize; return true;
    case cudaDevAttrMaxThreadsPerMultiProcessor: value = properties.maxThreadsPerMultiProcessor; return true;
    case cudaDevAttrComputeCapabilityMajor: value = properties.major; return true;
    case cudaDevAttrComputeCapabilityMinor: value = properties.minor; return true;
    case cudaDevAttrStreamPrioritiesSupported: value = properties.streamPrioritiesSupported; return true;
    case cudaDevAttrGlobalL1CacheSupported: value = properties.globalL1CacheSupported; return true;
    case cudaDevAttrLocalL1CacheSupported: value = properties.localL1CacheSupported; return true;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      return true;
    case cudaDevAttrMaxRegistersPerMultiprocessor: value = properties.regsPerMultiprocessor; return true;
    case cudaDevAttrComputePreemptionSupported: value = properties.computePreemptionSupported; return true;
    case cudaDevAttrCooperativeLaunch: value = properties.cooperativeLaunch; return true;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return true;
    case cudaDevAttrHostRegisterSupported: value = properties.hostRegisterSupported; return true;
    case cudaDevAttrMaxBlocksPerMultiprocessor: value = properties.maxBlocksPerMultiProcessor; return true;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      value = static_cast<int>(properties.reservedSharedMemPerBlock);
      return true;
    case cudaDevAttrMemoryPoolsSupported: value = properties.memoryPoolsSupported; return true;
    case cudaDevAttrClusterLaunch: value = properties.clusterLaunch; return true;
    case cudaDevAttrNumaId: value = properties.deviceNumaId; return true;
    case cudaDevAttrHostNumaId: value = properties.hostNumaId; return true;
    // What this card does not have: memory shared with the host, peers, graphics, error correction.
    case cudaDevAttrKernelExecTimeout:
    case cudaDevAttrIntegrated:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrComputeMode:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrTccDriver:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrIsMultiGpuBoard:
    case cudaDevAttrMultiGpuBoardGroupID:
    case cudaDevAttrHostNativeAtomicSupported:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
    case cudaDevAttrDirectManagedMemAccessFromHost:
    case cudaDevAttrMaxPersistingL2CacheSize:
    case cudaDevAttrMaxAccessPolicyWindowSize:
    case cudaDevAttrGPUDirectRDMASupported:
    case cudaDevAttrMemoryPoolSupportedHandleTypes:
    case cudaDevAttrIpcEventSupport:
    case cudaDevAttrMpsEnabled: value = 0; return true;
    default: return false;
  }
}

}  // namespace foretoken::ptx::runtime
