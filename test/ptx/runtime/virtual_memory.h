// Memory without an address and addresses without memory: cuMemCreate, cuMemAddressReserve, and cuMemMap between them.
#pragma once
#include <cstdint>
#include <map>

namespace foretoken::ptx::runtime {

class DeviceMemory;

class VirtualMemory {
 public:
  static constexpr uint64_t kGranularity = 2 << 20;

  // All throw Error.
  uint64_t reserve(DeviceMemory& memory, uint64_t bytes, uint64_t alignment);
  void free_reservation(DeviceMemory& memory, uint64_t address, uint64_t bytes);
  uint64_t create(DeviceMemory& memory, uint64_t bytes);
  void release(DeviceMemory& memory, uint64_t handle);
  void map(uint64_t address, uint64_t bytes, uint64_t offset, uint64_t handle);
  void unmap(DeviceMemory& memory, uint64_t address, uint64_t bytes);
  // Makes what is mapped there accessible.
  void set_access(DeviceMemory& memory, uint64_t address, uint64_t bytes, bool accessible);

  bool has(uint64_t handle) const { return physical_.count(handle) != 0; }

 private:
  struct Physical {
    uint64_t bytes = 0;
    uint64_t mapped_at = 0;  // 0: nowhere
    bool released = false;   // lives on until it is unmapped
  };
  struct Mapping {
    uint64_t bytes = 0, handle = 0;
    bool accessible = false;
  };
  void drop_if_unused(DeviceMemory& memory, uint64_t handle);

  std::map<uint64_t, uint64_t> reservations_;  // address -> bytes
  std::map<uint64_t, Physical> physical_;
  std::map<uint64_t, Mapping> mappings_;
  uint64_t handles_ = 0;
};

}  // namespace foretoken::ptx::runtime
