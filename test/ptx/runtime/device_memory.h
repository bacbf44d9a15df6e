// What is allocated on a device: by call order, which is what the ledger and the limit follow, and by execution order,
// which is when an address stops being valid for the work that is still to run.
#pragma once
#include <cstdint>
#include <map>
#include <memory>

#include "address_space.h"
#include "error.h"
#include "executor.h"

namespace foretoken::ptx::runtime {

// cudaMemPool_t: where cudaMallocAsync takes from.
struct Pool {
  int device = 0;
  bool destroyed = false;          // what is still allocated from it goes back to the device
  uint64_t max_bytes = 0;          // 0: no limit of its own
  uint64_t release_threshold = 0;  // bytes it keeps at a synchronisation
  uint64_t used = 0, used_peak = 0;
  uint64_t reserved = 0, reserved_peak = 0;
  // Accepted, kept and without effect: reuse needs no permission where addresses are not reused.
  std::map<int, int> switches;
};

class DeviceMemory {
 public:
  // Without an executor (a dry device) there are addresses and a ledger, and nothing behind them.
  DeviceMemory(AddressSpace& space, Executor* executor, uint64_t limit)
      : space_(space), executor_(executor), limit_(limit) {}

  // A new allocation, 256-byte aligned. Throws cudaErrorMemoryAllocation beyond the limit; 0 bytes: no address.
  uint64_t allocate(uint64_t bytes, const std::shared_ptr<Pool>& pool);
  // The call of a free: the bytes are available again, later calls may not use the address.
  void retire(uint64_t address);
  // The execution of a free: work from here on faults there.
  void release(uint64_t address);

  // No work from here on may touch these bytes of an allocation, until it is freed.
  void forbid(uint64_t address, uint64_t bytes);

  // Bytes whose end has been called and not executed: the machine still keeps them.
  uint64_t deferred() const { return deferred_; }

  // For the virtual memory management of driver.h: bytes without an address, addresses without bytes, and the two
  // joined.
  void charge(uint64_t bytes);
  void refund(uint64_t bytes) { used_ -= bytes; }
  void map(uint64_t address, uint64_t bytes);
  void unmap(uint64_t address);
  // An address for a variable of a module, which the executor maps itself; 0: none is left.
  uint64_t place_variable(uint64_t bytes, uint64_t alignment);

  // A synchronisation: pools keep no more than their threshold.
  void trim(Pool& pool, uint64_t keep);

  // Throws cudaErrorInvalidValue unless every byte is in allocations, one or several that were mapped side by side.
  void check(uint64_t address, uint64_t bytes, const char* what) const;
  bool owns(uint64_t address) const { return space_.contains(address); }
  // Start of the allocation that holds the address, 0: none.
  Region find(uint64_t address) const;

  AddressSpace& space() { return space_; }
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_; }  // bytes asked for and not freed
  uint64_t peak() const { return peak_; }
  uint64_t reserved() const { return used_ + cached_; }  // with what pools hold back
  size_t count() const { return live_; }                 // allocations whose end has not been executed
  void reset_peak() { peak_ = used_; }

 private:
  enum class Kind { allocation, mapping, variable };  // mappings may be continued by their neighbours
  struct Allocation {
    uint64_t bytes = 0;
    Kind kind = Kind::allocation;
    std::shared_ptr<Pool> pool;  // nullptr: cudaMalloc
    bool retired = false;
  };
  using Iterator = std::map<uint64_t, Allocation>::const_iterator;
  Iterator holder(uint64_t address) const;

  AddressSpace& space_;
  Executor* executor_;
  uint64_t limit_, used_ = 0, peak_ = 0, cached_ = 0, deferred_ = 0, number_ = 0;
  size_t live_ = 0;
  std::map<uint64_t, Allocation> allocations_;
};

}  // namespace foretoken::ptx::runtime
