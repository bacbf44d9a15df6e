// The memory behind an arena: a range of addresses reserved at once and made usable as it grows, and which of its pages
// may be resident.
//
// Huge pages (measured: 5 to 20 % of a training step) make a whole unit of 2 MB resident with its first byte; so the
// first touch of an untouched unit counts all of it, until a part of it is purged: it has small pages from then on.
// A GPU's pages are units themselves.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backing.h"

namespace foretoken {

class Pages {
 public:
  static constexpr int64_t kUnit = 2 << 20;

  // Reserves `bytes`, or the largest half, quarter, … of it that is granted.
  Pages(int64_t bytes, std::shared_ptr<Backing> backing);
  Pages(const Pages&) = delete;

  int64_t bytes() const { return bytes_; }
  void* at(int64_t offset) const { return reinterpret_cast<void*>(base_ + static_cast<uintptr_t>(offset)); }

  // Makes [0, end) usable; false when that is refused.
  bool grow(int64_t end);

  // Bytes of pages that were touched and not forgotten: at most this much is resident.
  int64_t resident() const { return resident_ * page_; }
  // Bytes that become resident when [offset, offset + bytes) is written; `touch` says that they will be. It is false,
  // and nothing changes, when there is no memory for them.
  int64_t untouched(int64_t offset, int64_t bytes) const;
  bool touch(int64_t offset, int64_t bytes);

  struct Span {
    int64_t offset = 0, bytes = 0;
  };
  // Picks pages that lie wholly inside [offset, offset + bytes), from its end, until `wanted` bytes of touched ones are
  // among them, and counts them as untouched. The caller gives them back with `purge`, once nothing uses them.
  Span forget(int64_t offset, int64_t bytes, int64_t wanted);
  void purge(Span span) const { backing_->drop(span.offset, span.bytes); }

 private:
  struct Range {
    int64_t first, last;  // pages, the last one excluded
  };
  // The pages that become resident when the bytes are written.
  Range touched_by(int64_t offset, int64_t bytes) const;
  bool faults_whole(int64_t unit) const;

  std::shared_ptr<Backing> backing_;
  uintptr_t base_ = 0;
  int64_t bytes_ = 0, usable_ = 0, resident_ = 0;
  const int64_t page_;
  std::vector<uint64_t> touched_;  // one bit a page
  std::vector<bool> small_;        // one a unit: a part of it was purged
};

}  // namespace foretoken
