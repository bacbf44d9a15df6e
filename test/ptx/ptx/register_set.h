// A set of registers, one bit each.
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace foretoken::ptx {

class RegisterSet {
 public:
  explicit RegisterSet(size_t registers) : words_((registers + 63) / 64, 0) {}

  void add(uint32_t reg) { words_[reg / 64] |= uint64_t{1} << reg % 64; }
  void remove(uint32_t reg) { words_[reg / 64] &= ~(uint64_t{1} << reg % 64); }
  bool has(uint32_t reg) const { return words_[reg / 64] >> reg % 64 & 1; }
  void clear() { words_.assign(words_.size(), 0); }

  // Adds all of `other`; true if some were new.
  bool add_all(const RegisterSet& other) {
    uint64_t added = 0;
    for (size_t i = 0; i < words_.size(); ++i) {
      added |= other.words_[i] & ~words_[i];
      words_[i] |= other.words_[i];
    }
    return added != 0;
  }
  // Calls visit(register) for each that is in both.
  template <class Visit>
  void for_each_common(const RegisterSet& other, Visit visit) const {
    for (size_t i = 0; i < words_.size(); ++i)
      for (uint64_t word = words_[i] & other.words_[i]; word != 0; word &= word - 1)
        visit(static_cast<uint32_t>(i * 64 + std::countr_zero(word)));
  }

 private:
  std::vector<uint64_t> words_;
};

}  // namespace foretoken::ptx
