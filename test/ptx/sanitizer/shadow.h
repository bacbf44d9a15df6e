// The shadow of a range of addresses: the last write and the reads since, of every byte.
//
// A line of 128 bytes is one record as long as few agents access it, in whole words and each word by one lane of
// theirs. Otherwise it is split into cells of 16 bytes, those into cells of 4, and those into single bytes.
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
struct alignas(64) Cell {
  static constexpr uint32_t kSplit = 0x80000000u;
  static constexpr int kReaders = 4;

  Epoch write;
  Epoch read[kReaders];
  uint32_t write_cluster = 0;  // of the split, if it is
  uint32_t read_cluster[kReaders] = {};
  // kSplit | index of the children, or 1 + index of further readers; valid as the clusters are.
  uint32_t link = 0;
};

// Which words of a line someone has accessed, and by which lane the first byte of each.
class Words {
 public:
  static constexpr uint32_t kCount = 32, kBytes = 4;

  Words() = default;
  // `count` words from `first` on, by lanes from `lane` on with 1 << shift bytes each.
  Words(uint32_t first, uint32_t count, uint32_t lane, uint32_t shift)
      : flags_((count == kCount ? ~0u : (1u << count) - 1) << first) {
    for (uint32_t k = 0; k < count; ++k) lanes_[first + k] = (lane + (kBytes * k >> shift)) & 31;
  }
  uint32_t flags() const { return flags_; }
  bool has(uint32_t word) const { return flags_ >> word & 1; }
  uint32_t lane(uint32_t word) const { return lanes_[word]; }
  bool empty() const { return flags_ == 0; }
  bool overlaps(const Words& other) const { return flags_ & other.flags_; }
  // All that this has the other has too.
  bool is_covered_by(const Words& other) const { return (flags_ & ~other.flags_) == 0; }
  // Where both have a word it is by the same lane.
  bool agrees_with(const Words& other) const {
    uint32_t different = 0;
    for (uint32_t k = 0; k < kCount; ++k) different |= uint32_t{lanes_[k] != other.lanes_[k]} << k;
    return (different & flags_ & other.flags_) == 0;
  }
  // Of words that agree.
  void join(const Words& other) {
    for (uint32_t k = 0; k < kCount; ++k) lanes_[k] = other.flags_ >> k & 1 ? other.lanes_[k] : lanes_[k];
    flags_ |= other.flags_;
  }
  void remove(const Words& other) { flags_ &= ~other.flags_; }

 private:
  uint32_t flags_ = 0;
  std::array<uint8_t, kCount> lanes_{};
};

// One agent's accesses to words of a line at one time; the lane of the epoch means nothing, the words' lanes do.
struct LineAccess {
  Epoch epoch;
  uint32_t cluster = 0;
  Words words;
};

// Eight cells as one, as long as few agents access it, and a word by the same lanes.
struct alignas(64) Line {
  static constexpr int kWriters = 2, kReaders = 4;

  LineAccess writes[kWriters];  // no two have a word in common
  LineAccess reads[kReaders];
  uint32_t split_by = 0;  // cluster, if it is split
  bool is_split = false;
};

class Shadow {
 public:
  static constexpr uint32_t kLineBytes = 128, kCellBytes = 16;
  static constexpr uint32_t kPieces = kLineBytes / kCellBytes;
  static_assert(Words::kCount * Words::kBytes == kLineBytes);
  using Children = std::array<Cell, 4>;

  // Addresses [base, base + bytes). `exact`: every reader is remembered; else the last few, of different warps
  // if there were any: what whole grids read.
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
  Line& line(uint64_t address) { return lines_[(address - base_) / kLineBytes]; }
  Cell& cell(uint64_t address) { return cells_[(address - base_) / kCellBytes]; }
  bool exact() const { return exact_; }
  bool is_current(uint32_t cluster) const { return cluster >= first_cluster_; }

  bool is_split(const Line& line) const { return line.is_split && is_current(line.split_by); }
  bool is_split(const Cell& cell) const { return cell.link & Cell::kSplit && is_current(cell.write_cluster); }
  Children& children(const Cell& cell) { return children_[cell.link & ~Cell::kSplit]; }
  // The line becomes eight cells.
  void split_line(Line& line, uint32_t cluster);
  void unite_line(Line& line);  // and is empty
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
  bool is_live(const LineAccess& access) const;
  void fill_from_line(Cell& cell, const Line& line, uint32_t word, uint32_t bytes);

  uint64_t base_, bytes_;
  bool exact_;
  uint32_t first_cluster_ = 1;
  uint64_t line_bytes_, cell_bytes_;
  Line* lines_ = nullptr;
  Cell* cells_ = nullptr;  // valid where a line is split
  // What they hold beyond the first so many is left over from before.
  std::deque<Children> children_;
  std::deque<std::vector<Reader>> readers_;
  uint32_t used_children_ = 0, used_readers_ = 0;
  std::vector<uint32_t> free_children_, free_readers_;
};

}  // namespace foretoken::sanitizer
