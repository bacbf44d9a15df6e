// The graphics card that is stood in for: limits by compute capability.
#pragma once
#include <cstdint>
#include <string>

#include "cuda_api.h"

namespace foretoken::ptx::runtime {

constexpr uint32_t kMaxThreadsPerBlock = 1024;
constexpr uint32_t kRegistersPerSm = 65536;
constexpr uint32_t kSharedBytesByDefault = 48 * 1024;
constexpr uint32_t kReservedSharedBytes = 1024;  // per block, for the driver

// CUDA C++ Programming Guide 13.0, table of technical specifications per compute capability.
struct Architecture {
  int major = 0, minor = 0;
  uint32_t shared_bytes_per_sm = 0;
  uint32_t shared_bytes_per_block = 0;  // the most a kernel can opt in to
  uint32_t threads_per_sm = 0;
  uint32_t blocks_per_sm = 0;
  uint32_t l2_bytes = 0;
  int version() const { return 10 * major + minor; }
  bool clusters() const { return major >= 9; }
};

// nullptr: not a card we know. 80, 89, 90, 100, 120.
const Architecture* find_architecture(int version);

struct Card {
  Architecture architecture;
  int sm_count = 0;
  uint64_t memory_bytes = 0;
  int index = 0;  // on this machine, before CUDA_VISIBLE_DEVICES
  std::string name() const;
};

constexpr int kMaxClusterSize = 16;  // blocks, for kernels that allow a non-portable size
constexpr int kMaxPortableClusterSize = 8;

cudaDeviceProp properties_of(const Card& card);
// false: no such attribute.
bool attribute_of(const Card& card, cudaDeviceAttr attribute, int& value);

}  // namespace foretoken::ptx::runtime
