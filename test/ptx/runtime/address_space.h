// A device's range of addresses: reserved, never accessible from the host, and given out so that what was freed is not
// given out again soon. A stale pointer then meets nothing instead of somebody else's tensor.
#pragma once
#include <cstdint>
#include <map>

#include "executor.h"

namespace foretoken::ptx::runtime {

class AddressSpace {
 public:
  explicit AddressSpace(int device);
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  AddressRange range() const { return range_; }
  bool contains(uint64_t address) const { return address - range_.base < range_.bytes; }

  // A gap that belongs to nobody follows. 0: no hole is large enough.
  uint64_t take(uint64_t bytes, uint64_t alignment);
  void give_back(uint64_t address);

 private:
  uint64_t take_below(uint64_t limit, uint64_t bytes, uint64_t alignment);

  AddressRange range_;
  uint64_t cursor_ = 0, live_ = 0;
  std::map<uint64_t, uint64_t> taken_;  // start -> end, gap included
};

}  // namespace foretoken::ptx::runtime
