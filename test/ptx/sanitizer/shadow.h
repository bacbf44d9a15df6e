// The shadow of a range of addresses: the last write and the reads since, of every byte.
//
// A line of 128 bytes has one cell as long as it is accessed alike, by one lane or by consecutive lanes. Where accesses
// differ it is split into cells of 16 bytes, those into cells of 4, and those into single bytes.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "epoch.h"

namespace foretoken::sanitizer {

struct Reader {
  Epoch epoch;
  uint32_t cluster = 0;
  bool operator==(const Reader&) const = default;
};

// Numbers of clusters are never used twice: a cell whose clusters are older than the shadow's is empty.
struct Cell {
  static constexpr uint32_t kSplit = 0x80000000u;
  static constexpr int kReaders = 2;

  Epoch write;
  Epoch read[kReaders];
  uint32_t write_cluster;  // of the split, if it is
  uint32_t read_cluster[kReaders];
  // kSplit | index of the children, or 1 + index of further readers; valid as the clusters are. Of a line: kSplit, or
  // which of its 16-byte pieces each reader has read, a byte of flags for each.
  uint32_t link;

  uint32_t pieces(int reader) const { return link >> (8 * reader) & 0xff; }
  void set_pieces(int reader, uint32_t flags) { link = (link & ~(0xffu << (8 * reader))) | flags << (8 * reader); }
};

class Shadow {
 public:
  static constexpr uint32_t kLineBytes = 128, kCellBytes = 16;
  static constexpr uint32_t kPieces = kLineBytes / kCellBytes;
  using Children = std::array<Cell, 4>;

  // Addresses [base, base + bytes). `exact`: every reader is remembered; else the last two, of different warps if
  // there were any: what whole grids read.
  Shadow(uint64_t base, uint64_t bytes, bool exact);
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  // Everything is empty again, for clusters from this number on. The addresses may be others, at most as many.
  void reuse(uint64_t base, uint64_t bytes, uint32_t first_cluster);

  uint64_t base() const { return base_; }
  uint64_t bytes() const { return bytes_; }
  bool contains(uint64_t address, uint64_t bytes) const {
    return address - base_ < bytes_ && bytes <= bytes_ - (address - base_);
  }
  Cell& line(uint64_t address) { return lines_[(address - base_) / kLineBytes]; }
  Cell& cell(uint64_t address) { return cells_[(address - base_) / kCellBytes]; }
  bool exact() const { return exact_; }
  bool is_current(uint32_t cluster) const { return cluster >= first_cluster_; }

  bool is_split(const Cell& cell) const { return cell.link & Cell::kSplit && is_current(cell.write_cluster); }
  Children& children(const Cell& cell) { return children_[cell.link & ~Cell::kSplit]; }
  // The line becomes eight cells.
  void split_line(Cell& line, uint32_t cluster);
  void unite_line(Cell& line);  // and is empty
  // A cell of `bytes` becomes four; `cluster` is the one that works on it.
  void split(Cell& cell, uint32_t bytes, uint32_t cluster);
  void unite(Cell& cell);  // and is empty

  // Readers beyond those in the cell.
  std::vector<Reader>* more_readers(const Cell& cell) {
    return cell.link && !(cell.link & Cell::kSplit) && is_current(cell.read_cluster[0]) ? &readers_[cell.link - 1]
                                                                                        : nullptr;
  }
  void add_reader(Cell& cell, const Reader& reader);
  void forget_readers(Cell& cell);

  // Whole pages of this range go back to the operating system, and are empty.
  void forget(uint64_t address, uint64_t bytes);

  // The last write to a byte, of whatever launch.
  Reader last_write(uint64_t address);

 private:
  uint64_t base_, bytes_;
  bool exact_;
  uint32_t first_cluster_ = 1;
  uint64_t line_bytes_, cell_bytes_;
  Cell* lines_ = nullptr;
  Cell* cells_ = nullptr;  // valid where a line is split
  std::deque<Children> children_;
  std::vector<uint32_t> free_children_;
  std::deque<std::vector<Reader>> readers_;
  std::vector<uint32_t> free_readers_;
};

}  // namespace foretoken::sanitizer
