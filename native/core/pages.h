// The memory behind an arena: a range of addresses reserved at once and made usable as it grows, and which of its pages
// may be resident. A dry range has addresses but no memory.
//
// Huge pages (measured: 5 to 20 % of a training step) make a whole unit of 2 MB resident with its first byte; so the
// first touch of an untouched unit counts all of it, until a part of it is purged: it has small pages from then on.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace foretoken {

class Pages {
 public:
  // Of this machine.
  static int64_t page_bytes();
  static constexpr int64_t kUnit = 2 << 20;

  // Real: reserves `bytes`, or the largest half, quarter, … of it that the system grants.
  Pages(int64_t bytes, bool dry);
  ~Pages();
  Pages(const Pages&) = delete;

  int64_t bytes() const { return bytes_; }
  void* at(int64_t offset) const { return reinterpret_cast<void*>(base_ + static_cast<uintptr_t>(offset)); }

  // Makes [0, end) usable; false when the system refuses.
  bool grow(int64_t end);

  // Bytes of pages that were touched and not forgotten: at most this much is resident.
  int64_t resident() const { return resident_ * page_; }
  // Bytes that become resident when [offset, offset + bytes) is written; `touch` says that they will be.
  int64_t untouched(int64_t offset, int64_t bytes) const;
  void touch(int64_t offset, int64_t bytes);

  struct Span {
    int64_t offset = 0, bytes = 0;
  };
  // Picks pages that lie wholly inside [offset, offset + bytes), from its end, until `wanted` bytes of touched ones are
  // among them, and counts them as untouched. The caller gives them back with `purge`, once nothing uses them.
  Span forget(int64_t offset, int64_t bytes, int64_t wanted);
  void purge(Span span) const;

 private:
  struct Range {
    int64_t first, last;  // pages, the last one excluded
  };
  // The pages that become resident when the bytes are written.
  Range touched_by(int64_t offset, int64_t bytes) const;
  bool faults_whole(int64_t unit) const;

  uintptr_t base_ = 0, reserved_ = 0;
  int64_t bytes_ = 0, usable_ = 0, resident_ = 0;
  const bool dry_;
  const int64_t page_ = page_bytes();
  std::vector<uint64_t> touched_;  // one bit a page
  std::vector<bool> small_;        // one a unit: a part of it was purged
};

}  // namespace foretoken
