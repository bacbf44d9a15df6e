// Definedness of what a warp writes, gathered into lines of 64 bytes and pages: lanes often fill them together.
#pragma once
#include <array>

#include "../memory.h"

namespace foretoken::machine {

class ScatteredDefinedness {
 public:
  // At most 32 times; the bytes do not cross a multiple of 64.
  void add(uint64_t address, uint32_t bytes, uint64_t undefined_bits) {
    const uint64_t line = address & ~uint64_t{63}, shift = address & 63;
    uint32_t k = count_;
    while (k > 0 && lines_[k - 1].address != line) --k;
    if (k == 0) {
      lines_[count_] = {line, 0, 0};
      k = ++count_;
    }
    lines_[k - 1].covered |= ((uint64_t{1} << bytes) - 1) << shift;
    lines_[k - 1].undefined |= undefined_bits << shift;
  }

  void store(Memory& memory) const {
    for (uint32_t k = 0; k < count_;) {
      if (is_page(k)) {
        lines_[k].undefined ? memory.mark_undefined(lines_[k].address, kPage)
                            : memory.mark_defined(lines_[k].address, kPage);
        k += kLinesOfPage;
      } else {
        store_line(memory, lines_[k++]);
      }
    }
  }

 private:
  struct Line {
    uint64_t address, covered, undefined;
  };
  static constexpr uint32_t kPage = Memory::kPageBytes, kLinesOfPage = kPage / 64;

  // The lines from k on are a page, all defined or all undefined.
  bool is_page(uint32_t k) const {
    if (lines_[k].address % kPage || k + kLinesOfPage > count_) return false;
    for (uint32_t i = 0; i < kLinesOfPage; ++i) {
      const Line& line = lines_[k + i];
      if (line.address != lines_[k].address + 64 * i || ~line.covered || line.undefined != lines_[k].undefined)
        return false;
    }
    return lines_[k].undefined == 0 || ~lines_[k].undefined == 0;
  }

  static void store_line(Memory& memory, const Line& line) {
    for (uint64_t rest = line.covered; rest;) {
      const int first = __builtin_ctzll(rest);
      const uint64_t gap = ~(rest >> first);
      const int bytes =
          gap ? __builtin_ctzll(gap) : 64;  // a shift by `first` leaves zeros above: no gap only for all 64
      const uint64_t mask = bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1;
      memory.set_undefined(line.address + static_cast<uint64_t>(first), static_cast<uint32_t>(bytes),
                           line.undefined >> first & mask);
      rest &= ~(mask << first);
    }
  }

  uint32_t count_ = 0;
  std::array<Line, 32> lines_;
};

}  // namespace foretoken::machine
