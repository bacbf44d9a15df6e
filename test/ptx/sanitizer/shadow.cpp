#include "shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace foretoken::sanitizer {

namespace {

template <class T>
T* reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<T*>(p);
}

// Whole pages of so many cells or lines are zero again.
template <class T>
void release(T* first_of_them, uint64_t count) {
  constexpr uint64_t kPage = 4096;
  const auto begin = reinterpret_cast<uint64_t>(first_of_them), end = begin + count * sizeof(T);
  const uint64_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// What is left of an access in the part of its cell that begins at this byte.
Epoch from_byte(Epoch epoch, uint32_t byte, uint32_t bytes) {
  if (!epoch) return epoch;
  return epoch.of(epoch.lane_of(byte), bytes <= 1u << epoch.shift() ? Epoch::kOneLane : epoch.shift());
}

// Whether the access is to all of a cell, by lanes next to each other, or to none of it.
bool is_uniform(const LineAccess& access, uint32_t first_word) {
  constexpr uint32_t kWords = Shadow::kCellBytes / Words::kBytes, kAll = (1 << kWords) - 1;
  const uint32_t flags = access.words.flags() >> first_word & kAll;
  if (flags != 0 && flags != kAll) return false;
  const Words expected(first_word, flags ? kWords : 0, access.words.lane(first_word),
                       access.epoch.shift() == Epoch::kOneLane ? 31 : access.epoch.shift());
  return access.words.agrees_with(expected);
}

}  // namespace

Shadow::Shadow(uint64_t base, uint64_t bytes, bool exact)
    : base_(base),
      bytes_(bytes),
      exact_(exact),
      line_bytes_((bytes / kLineBytes + 2) * sizeof(Line)),
      cell_bytes_((bytes / kCellBytes + 2 * kPieces) * sizeof(Cell)),
      lines_(reserve<Line>(line_bytes_)),
      cells_(reserve<Cell>(cell_bytes_)) {}

Shadow::~Shadow() {
  munmap(lines_, line_bytes_);
  munmap(cells_, cell_bytes_);
}

void Shadow::reuse(uint64_t base, uint64_t bytes, uint32_t first_cluster) {
  base_ = base;
  bytes_ = bytes;
  first_cluster_ = first_cluster;
  used_children_ = used_readers_ = 0;
  free_children_.clear();
  free_readers_.clear();
}

bool Shadow::is_live(const LineAccess& access) const { return access.epoch && is_current(access.cluster); }

// `bytes` of a line from this word on, as the line's accesses say.
void Shadow::fill_from_line(Cell& cell, const Line& line, uint32_t word, uint32_t bytes) {
  const auto part = [&](const LineAccess& access) {
    return from_byte(access.epoch.of(access.words.lane(word), access.epoch.shift()), 0, bytes);
  };
  cell = {};
  for (const LineAccess& write : line.writes) {
    if (!is_live(write) || !write.words.has(word)) continue;
    cell.write = part(write);
    cell.write_cluster = write.cluster;
  }
  for (int r = 0; r < Line::kReaders; ++r) {
    const LineAccess& read = line.reads[r];
    if (!is_live(read) || !read.words.has(word)) continue;
    cell.read[r] = part(read);
    cell.read_cluster[r] = read.cluster;
  }
}

void Shadow::split_line(Line& line, uint32_t cluster) {
  constexpr uint32_t kWords = kCellBytes / Words::kBytes;
  Cell* cells = cells_ + (&line - lines_) * kPieces;
  for (uint32_t k = 0; k < kPieces; ++k) {
    const auto uniform = [&](const LineAccess& access) { return !is_live(access) || is_uniform(access, kWords * k); };
    if (std::all_of(line.writes, line.writes + Line::kWriters, uniform) &&
        std::all_of(line.reads, line.reads + Line::kReaders, uniform)) {
      fill_from_line(cells[k], line, kWords * k, kCellBytes);
      continue;
    }
    cells[k] = {};
    split(cells[k], kCellBytes, cluster);
    for (uint32_t word = 0; word < kWords; ++word)
      fill_from_line(children(cells[k])[word], line, kWords * k + word, Words::kBytes);
  }
  line = {};
  line.split_by = cluster;
  line.is_split = true;
}

void Shadow::unite_line(Line& line) {
  Cell* cells = cells_ + (&line - lines_) * kPieces;
  for (uint32_t k = 0; k < kPieces; ++k) {
    if (is_split(cells[k])) unite(cells[k]);
    forget_readers(cells[k]);
  }
  line = {};
}

void Shadow::split(Cell& cell, uint32_t bytes, uint32_t cluster) {
  uint32_t index;
  if (free_children_.empty()) {
    index = used_children_++;
    if (index == children_.size()) children_.emplace_back();
  } else {
    index = free_children_.back();
    free_children_.pop_back();
  }
  const uint32_t size = bytes / 4;
  const std::vector<Reader>* more = more_readers(cell);
  for (uint32_t k = 0; k < 4; ++k) {
    Cell& child = children_[index][k];
    child = cell;
    child.link = 0;
    child.write = from_byte(cell.write, size * k, size);
    for (int r = 0; r < Cell::kReaders; ++r) child.read[r] = from_byte(cell.read[r], size * k, size);
    if (more)
      for (const Reader& reader : *more) add_reader(child, {from_byte(reader.epoch, size * k, size), reader.cluster});
  }
  forget_readers(cell);
  cell.write = {};
  cell.write_cluster = cluster;
  cell.link = Cell::kSplit | index;
}

void Shadow::unite(Cell& cell) {
  const uint32_t index = cell.link & ~Cell::kSplit;
  for (Cell& child : children_[index]) {
    if (is_split(child)) unite(child);
    forget_readers(child);
  }
  free_children_.push_back(index);
  cell = {};
}

void Shadow::add_reader(Cell& cell, const Reader& reader) {
  if (!more_readers(cell)) {
    if (free_readers_.empty()) {
      if (used_readers_ == readers_.size()) readers_.emplace_back();
      readers_[used_readers_].clear();
      cell.link = ++used_readers_;
    } else {
      cell.link = free_readers_.back();
      free_readers_.pop_back();
    }
  }
  readers_[cell.link - 1].push_back(reader);
}

void Shadow::forget_readers(Cell& cell) {
  if (std::vector<Reader>* more = more_readers(cell)) {
    more->clear();
    free_readers_.push_back(cell.link);
  }
  if (!(cell.link & Cell::kSplit)) cell.link = 0;
  for (int r = 0; r < Cell::kReaders; ++r) cell.read[r] = {};
}

void Shadow::forget(uint64_t address, uint64_t bytes) {
  release(&line(address), bytes / kLineBytes);
  release(&cell(address), bytes / kCellBytes);
}

Reader Shadow::last_write(uint64_t address) {
  const auto by_byte = [](Epoch write, uint32_t cluster, uint32_t byte) {
    return write ? Reader{write.of(write.lane_of(byte), Epoch::kOneLane), cluster} : Reader{};
  };
  if (!contains(address, 1)) return {};
  const Line& whole = line(address);
  uint32_t offset = static_cast<uint32_t>((address - base_) % kLineBytes);
  if (!whole.is_split) {
    const uint32_t word = offset / Words::kBytes;
    for (const LineAccess& write : whole.writes)
      if (write.epoch && write.words.has(word))
        return by_byte(write.epoch.of(write.words.lane(word), write.epoch.shift()), write.cluster,
                       offset % Words::kBytes);
    return {};
  }
  const Cell* at = &cell(address);
  uint32_t bytes = kCellBytes;
  offset %= kCellBytes;
  while (is_split(*at)) {
    bytes /= 4;
    at = &children(*at)[offset / bytes];
    offset %= bytes;
  }
  return by_byte(at->write, at->write_cluster, offset);
}

}  // namespace foretoken::sanitizer
