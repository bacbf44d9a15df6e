// Where agents meet: barriers that have phases, and words of memory that atomics and flags publish through.
#pragma once
#include <array>
#include <unordered_map>

#include "warp_clock.h"

namespace foretoken::sanitizer {

// What has been published in the phase that is being gathered, and in the one before, which those who leave acquire.
// A phase may be named by its number or by its parity.
class PhasedClock {
 public:
  Clock& arriving(uint64_t phase) {
    Clock& clock = clocks_[phase & 1];
    if (current_ != phase) clock = {};
    current_ = phase;
    return clock;
  }
  const Clock& leaving(uint64_t phase) const { return clocks_[phase & 1]; }

 private:
  std::array<Clock, 2> clocks_;
  uint64_t current_ = 0;
};

// By word: what its last writer, and the atomics since, have published. (PTX ISA, memory consistency model: release
// patterns, observation through chains of read-modify-writes.)
class PublishedWords {
 public:
  // `clock` is published by an agent of this cluster. A write takes the place of what was there, an atomic adds to it.
  void publish(uint64_t address, uint32_t bytes, uint32_t cluster, const Clock& clock, Reach reach, bool adds);
  // A relaxed write without a fence behind it publishes nothing.
  void overwrite(uint64_t address, uint32_t bytes);
  // Joins what an agent of this cluster acquires there into `clock`. False: nothing.
  bool acquire(uint64_t address, uint32_t bytes, uint32_t cluster, Clock& clock) const;
  bool empty() const { return words_.empty(); }
  void clear() { words_.clear(); }

 private:
  struct Word {
    Views device, block;  // for all, and for the cluster that is named alone
    uint32_t block_cluster = 0;
  };
  static constexpr uint64_t kWordBytes = 4;
  std::unordered_map<uint64_t, Word> words_;  // by address / 4
};

}  // namespace foretoken::sanitizer
