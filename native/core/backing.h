// What gives a range of addresses its memory: the system, a GPU (native/cuda), or nothing at all.
#pragma once
#include <cstdint>
#include <memory>

namespace foretoken {

class Backing {
 public:
  virtual ~Backing() = default;

  // Bytes that become resident together: pages are counted and given back in these.
  virtual int64_t page_bytes() const = 0;
  // The first of `bytes` new addresses, a multiple of Pages::kUnit; 0 when they are refused. Called once with success.
  virtual uintptr_t reserve(int64_t bytes) = 0;
  // The addresses [from, to), offsets from the first, will be handed out.
  virtual bool grow(int64_t from, int64_t to) = 0;
  // These bytes will be written; not all of them are resident yet.
  virtual bool populate(int64_t offset, int64_t bytes) = 0;
  // These pages are not needed any more, nor in use; some may not be resident.
  virtual void drop(int64_t offset, int64_t bytes) = 0;
};

// Pages of this process. They are populated by themselves, with the first write.
std::shared_ptr<Backing> system_memory();

// Addresses without memory, counted in pages of this size: for the dry device.
std::shared_ptr<Backing> no_memory(int64_t page_bytes);

}  // namespace foretoken
