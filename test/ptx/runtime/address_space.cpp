#include "address_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <stdexcept>

namespace foretoken::ptx::runtime {
namespace {

// The hint makes addresses equal from run to run; the system may choose others.
constexpr uint64_t kHint = 0x2000'0000'0000, kBytes = 1ull << 40;
constexpr uint64_t kGap = 4096;
// Addresses come round after so many bytes, or a multiple of what is live: what the machine notes of each byte that was
// ever used must not fill the memory of this machine.
constexpr uint64_t kWindow = 1ull << 30, kLiveFactor = 4;

}  // namespace

AddressSpace::AddressSpace(int device) {
  void* hint = reinterpret_cast<void*>(kHint + static_cast<uint64_t>(device) * 2 * kBytes);
  void* reserved = mmap(hint, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) throw std::runtime_error("no addresses can be reserved for the software GPU");
  range_ = {reinterpret_cast<uint64_t>(reserved), kBytes};
  cursor_ = range_.base + kGap;
}

AddressSpace::~AddressSpace() { munmap(reinterpret_cast<void*>(range_.base), range_.bytes); }

uint64_t AddressSpace::take(uint64_t bytes, uint64_t alignment) {
  if (bytes > range_.bytes / 2) return 0;
  const uint64_t wanted = (bytes + kGap - 1) / kGap * kGap + kGap;
  const uint64_t end = range_.base + range_.bytes;
  const uint64_t window = range_.base + std::min(range_.bytes, std::max(kWindow, kLiveFactor * (live_ + wanted)));
  uint64_t address = take_below(window, wanted, alignment);
  if (!address) address = take_below(end, wanted, alignment);
  if (address) live_ += wanted;
  return address;
}

void AddressSpace::give_back(uint64_t address) {
  const auto found = taken_.find(address);
  live_ -= found->second - found->first;
  taken_.erase(found);
}

// The first hole from where the last one was taken; at the limit it goes round once.
uint64_t AddressSpace::take_below(uint64_t limit, uint64_t wanted, uint64_t alignment) {
  uint64_t at = cursor_;
  for (bool wrapped = false;;) {
    at = (at + alignment - 1) / alignment * alignment;
    if (at + wanted > limit) {
      if (wrapped) return 0;
      wrapped = true;
      at = range_.base + kGap;
      continue;
    }
    const auto next = taken_.lower_bound(at);
    if (next != taken_.begin() && std::prev(next)->second > at) {
      at = std::prev(next)->second;
    } else if (next != taken_.end() && next->first < at + wanted) {
      at = next->second;
    } else {
      taken_[at] = cursor_ = at + wanted;
      return at;
    }
  }
}

}  // namespace foretoken::ptx::runtime
