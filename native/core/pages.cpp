#include "pages.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace foretoken {

Pages::Pages(int64_t bytes, std::shared_ptr<Backing> backing)
    : backing_(std::move(backing)), page_(backing_->page_bytes()) {
  constexpr int64_t kLeast = 64 << 20;
  for (bytes_ = bytes / kUnit * kUnit; bytes_ >= kLeast; bytes_ = bytes_ / 2 / kUnit * kUnit)
    if ((base_ = backing_->reserve(bytes_))) return;
  bytes_ = 0;
}

bool Pages::grow(int64_t end) {
  constexpr int64_t kStep = 64 << 20;
  if (end <= usable_) return true;
  const int64_t wanted = std::min(bytes_, (end + kStep - 1) / kStep * kStep);
  if (!backing_->grow(usable_, wanted)) return false;
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

bool Pages::faults_whole(int64_t unit) const {
  if (small_[static_cast<size_t>(unit)]) return false;
  int64_t count = 0;
  visit_words(unit * kUnit / page_, (unit + 1) * kUnit / page_,
              [&](size_t word, uint64_t mask) { count += std::popcount(mask & touched_[word]); });
  return count == 0;
}

Pages::Range Pages::touched_by(int64_t offset, int64_t bytes) const {
  Range range{offset / page_, (offset + bytes + page_ - 1) / page_};
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

bool Pages::touch(int64_t offset, int64_t bytes) {
  const Range range = touched_by(offset, bytes);
  if (!backing_->populate(range.first * page_, (range.last - range.first) * page_)) return false;
  visit_words(range.first, range.last, [&](size_t word, uint64_t mask) {
    resident_ += std::popcount(mask & ~touched_[word]);
    touched_[word] |= mask;
  });
  return true;
}

Pages::Span Pages::forget(int64_t offset, int64_t bytes, int64_t wanted) {
  const int64_t first = (offset + page_ - 1) / page_;
  int64_t last = std::min(offset + bytes, usable_) / page_, from = last, found = 0;
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

}  // namespace foretoken
