#include "shadow.h"

#include <sys/mman.h>

#include <new>

namespace foretoken::sanitizer {

namespace {

Cell* reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Cell*>(p);
}

// Whole pages of so many cells are zero again.
void release(Cell* cells, uint64_t count) {
  constexpr uint64_t kPage = 4096;
  const auto begin = reinterpret_cast<uint64_t>(cells), end = begin + count * sizeof(Cell);
  const uint64_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// What is left of an access in the part of its cell that begins at this byte.
Epoch from_byte(Epoch epoch, uint32_t byte, uint32_t bytes) {
  if (!epoch) return epoch;
  return epoch.of(epoch.lane_of(byte), bytes <= 1u << epoch.shift() ? Epoch::kOneLane : epoch.shift());
}

}  // namespace

Shadow::Shadow(uint64_t base, uint64_t bytes, bool exact)
    : base_(base),
      bytes_(bytes),
      exact_(exact),
      line_bytes_((bytes / kLineBytes + 2) * sizeof(Cell)),
      cell_bytes_((bytes / kCellBytes + 2 * kPieces) * sizeof(Cell)),
      lines_(reserve(line_bytes_)),
      cells_(reserve(cell_bytes_)) {}

Shadow::~Shadow() {
  munmap(lines_, line_bytes_);
  munmap(cells_, cell_bytes_);
}

void Shadow::reuse(uint64_t base, uint64_t bytes, uint32_t first_cluster) {
  base_ = base;
  bytes_ = bytes;
  first_cluster_ = first_cluster;
  children_.clear();
  free_children_.clear();
  readers_.clear();
  free_readers_.clear();
}

void Shadow::split_line(Cell& line, uint32_t cluster) {
  Cell* cells = cells_ + (&line - lines_) * kPieces;
  for (uint32_t k = 0; k < kPieces; ++k) {
    Cell& cell = cells[k];
    cell = line;
    cell.link = 0;
    cell.write = from_byte(line.write, kCellBytes * k, kCellBytes);
    for (int r = 0; r < Cell::kReaders; ++r)
      cell.read[r] = line.pieces(r) >> k & 1 ? from_byte(line.read[r], kCellBytes * k, kCellBytes) : Epoch();
  }
  line = {};
  line.write_cluster = cluster;
  line.link = Cell::kSplit;
}

void Shadow::unite_line(Cell& line) {
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
    index = static_cast<uint32_t>(children_.size());
    children_.emplace_back();
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
      readers_.emplace_back();
      cell.link = static_cast<uint32_t>(readers_.size());
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
  if (!contains(address, 1)) return {};
  const Cell* cell = &line(address);
  uint32_t bytes = kLineBytes, offset = static_cast<uint32_t>((address - base_) % kLineBytes);
  if (is_split(*cell)) {
    cell = &this->cell(address);
    bytes = kCellBytes;
    offset %= kCellBytes;
  }
  while (is_split(*cell)) {
    bytes /= 4;
    cell = &children(*cell)[offset / bytes];
    offset %= bytes;
  }
  if (!cell->write) return {};
  return {cell->write.of(cell->write.lane_of(offset), Epoch::kOneLane), cell->write_cluster};
}

}  // namespace foretoken::sanitizer
