#include "pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

namespace foretoken {

// ---- the system's part (Linux) -------------------------------------------------------------------------------------

int64_t Pages::page_bytes() {
  static const int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

static uintptr_t reserve(int64_t bytes) {
  void* at = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? 0 : reinterpret_cast<uintptr_t>(at);
}

static void unreserve(uintptr_t base, int64_t bytes) {
  munmap(reinterpret_cast<void*>(base), static_cast<size_t>(bytes));
}

static bool make_usable(uintptr_t base, int64_t bytes) {
  void* at = reinterpret_cast<void*>(base);
  if (mprotect(at, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE) != 0) return false;
  // With pages of 4 KB a huge one is a unit; with others it is larger than what is counted here.
  const bool countable = Pages::page_bytes() == 4096;
  madvise(at, static_cast<size_t>(bytes), countable ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return true;
}

static void drop(uintptr_t base, int64_t bytes) {
  void* at = reinterpret_cast<void*>(base);
  madvise(at, static_cast<size_t>(bytes), MADV_DONTNEED);
  // Else the system might join the small pages around into a huge one, and what was dropped were resident again.
  madvise(at, static_cast<size_t>(bytes), MADV_NOHUGEPAGE);
}

// ---- ours ----------------------------------------------------------------------------------------------------------

constexpr uintptr_t kDryBase = uintptr_t{1} << 46;

Pages::Pages(int64_t bytes, bool dry) : dry_(dry) {
  constexpr int64_t kLeast = 64 << 20;
  if (dry_) {
    base_ = kDryBase;
    bytes_ = bytes;
    return;
  }
  for (bytes_ = bytes / kUnit * kUnit; bytes_ >= kLeast; bytes_ = bytes_ / 2 / kUnit * kUnit)
    if ((reserved_ = reserve(bytes_ + kUnit))) break;
  if (!reserved_) bytes_ = 0;
  base_ = (reserved_ + kUnit - 1) / kUnit * kUnit;
}

Pages::~Pages() {
  if (reserved_) unreserve(reserved_, bytes_ + kUnit);
}

bool Pages::grow(int64_t end) {
  constexpr int64_t kStep = 64 << 20;
  if (end <= usable_) return true;
  const int64_t wanted = std::min(bytes_, (end + kStep - 1) / kStep * kStep);
  if (!dry_ && !make_usable(base_ + static_cast<uintptr_t>(usable_), wanted - usable_)) return false;
  usable_ = wanted;
  touched_.resize(static_cast<size_t>(usable_ / page_ + 63) / 64);
  small_.resize(static_cast<size_t>(usable_ / kUnit));
  return true;
}

// Calls visit(word, mask) for the words that hold the pages [first, last).
template <class Visit>
static void visit_words(int64_t first, int64_t last, Visit visit) {
  for (int64_t page = first; page < last;) {
    const int64_t end = std::min(last, (page / 64 + 1) * 64);
    const uint64_t ones = end - page == 64 ? ~uint64_t{0} : (uint64_t{1} << (end - page)) - 1;
    visit(static_cast<size_t>(page / 64), ones << (page % 64));
    page = end;
  }
}

static int64_t page_below(int64_t offset) { return offset / Pages::page_bytes(); }
static int64_t page_above(int64_t offset) { return (offset + Pages::page_bytes() - 1) / Pages::page_bytes(); }

bool Pages::faults_whole(int64_t unit) const {
  if (small_[static_cast<size_t>(unit)]) return false;
  int64_t count = 0;
  visit_words(unit * kUnit / page_, (unit + 1) * kUnit / page_,
              [&](size_t word, uint64_t mask) { count += std::popcount(mask & touched_[word]); });
  return count == 0;
}

Pages::Range Pages::touched_by(int64_t offset, int64_t bytes) const {
  Range range{page_below(offset), page_above(offset + bytes)};
  const int64_t first = offset / kUnit, last = (offset + bytes - 1) / kUnit;
  if (faults_whole(first)) range.first = first * kUnit / page_;
  if (faults_whole(last)) range.last = (last + 1) * kUnit / page_;
  return range;
}

int64_t Pages::untouched(int64_t offset, int64_t bytes) const {
  const Range range = touched_by(offset, bytes);
  int64_t count = 0;
  visit_words(range.first, range.last,
              [&](size_t word, uint64_t mask) { count += std::popcount(mask & ~touched_[word]); });
  return count * page_;
}

void Pages::touch(int64_t offset, int64_t bytes) {
  const Range range = touched_by(offset, bytes);
  visit_words(range.first, range.last, [&](size_t word, uint64_t mask) {
    resident_ += std::popcount(mask & ~touched_[word]);
    touched_[word] |= mask;
  });
}

Pages::Span Pages::forget(int64_t offset, int64_t bytes, int64_t wanted) {
  const int64_t first = page_above(offset);
  int64_t last = page_below(std::min(offset + bytes, usable_)), from = last, found = 0;
  while (from > first && found * page_ < wanted) {
    const int64_t low = std::max(first, (from - 1) / 64 * 64);
    visit_words(low, from, [&](size_t word, uint64_t mask) {
      found += std::popcount(mask & touched_[word]);
      touched_[word] &= ~mask;
    });
    from = low;
    if (!found) last = low;  // nothing to give back above
  }
  resident_ -= found;
  for (int64_t unit = from * page_ / kUnit; found && unit * kUnit < last * page_; unit++)
    small_[static_cast<size_t>(unit)] = true;
  return found ? Span{from * page_, (last - from) * page_} : Span{};
}

void Pages::purge(Span span) const {
  if (!dry_) drop(base_ + static_cast<uintptr_t>(span.offset), span.bytes);
}

}  // namespace foretoken
