// Who accessed a byte and when, in 64 bits: what the shadow of memory is made of.
//
// An agent is a warp, or a stream of asynchronous operations that one waits for in order of issue (Channel). Its time
// advances when it releases: an access is known to whoever has acquired that time or a later one.
#pragma once
#include <bit>
#include <cstdint>

namespace foretoken::sanitizer {

using Mask = uint32_t;  // bit per lane
constexpr Mask kAllLanes = 0xffffffffu;

// The agents of a cluster of n warps: warp w is agent w, its channels are n + w, 2n + w, … A load by TMA is waited for
// through its mbarrier, so each mbarrier is a channel too: kTransactions n, kTransactions n + 1, …
enum Channel : uint32_t { kWarp, kCopies, kBulkReads, kBulkWrites, kProducts, kTransactions };

class Epoch {
 public:
  static constexpr uint32_t kMaxTime = (1u << 24) - 1, kMaxAgent = (1u << 12) - 1, kMaxPc = (1u << 18) - 1;
  static constexpr uint32_t kOneLane = 7;  // shift of an access whose bytes all belong to one lane

  Epoch() = default;
  // In a cell the byte at offset b was accessed by lane (`lane` + (b >> shift)) mod 32: coalesced accesses fill it.
  Epoch(uint32_t time, uint32_t agent, uint32_t pc, bool strong)
      : bits_(uint64_t{time} << 40 | uint64_t{agent} << 28 | uint64_t{pc < kMaxPc ? pc : kMaxPc} << 10 |
              uint64_t{strong} << 1) {}
  Epoch of(uint32_t lane, uint32_t shift) const {
    Epoch result = *this;
    result.bits_ = (bits_ & ~uint64_t{0x3fc}) | lane << 5 | (shift < kOneLane ? shift : kOneLane) << 2;
    return result;
  }
  // Accessed by several lanes, of which `lane` is one.
  Epoch by_many() const {
    Epoch result = *this;
    result.bits_ |= 1;
    return result;
  }

  explicit operator bool() const { return bits_ != 0; }
  bool operator==(const Epoch&) const = default;
  uint32_t time() const { return static_cast<uint32_t>(bits_ >> 40); }
  uint32_t agent() const { return static_cast<uint32_t>(bits_ >> 28) & kMaxAgent; }
  uint32_t pc() const { return static_cast<uint32_t>(bits_ >> 10) & kMaxPc; }
  uint32_t lane() const { return static_cast<uint32_t>(bits_ >> 5) & 31; }
  uint32_t shift() const { return static_cast<uint32_t>(bits_ >> 2) & 7; }
  bool same_lanes(Epoch other) const { return !many() && ((bits_ ^ other.bits_) & 0x3fd) == 0; }
  // By the same lanes of the same agent at the same time, of whatever instruction.
  bool is_together_with(Epoch other) const { return ((bits_ ^ other.bits_) & ~kPcBits) == 0; }
  // Likewise, but for the lanes.
  bool is_alike(Epoch other) const { return ((bits_ ^ other.bits_) & ~(kPcBits | kLaneBits)) == 0; }
  bool strong() const { return bits_ & 2; }  // volatile, relaxed, acquire, release, atomic
  bool many() const { return bits_ & 1; }

  uint32_t lane_of(uint32_t byte) const { return (lane() + (shift() == kOneLane ? 0 : byte >> shift())) & 31; }
  Mask lanes_of(uint32_t byte) const { return many() ? kAllLanes : 1u << lane_of(byte); }
  // Of a cell of so many bytes.
  Mask lanes(uint32_t bytes) const {
    if (many()) return kAllLanes;
    const uint32_t count = shift() == kOneLane ? 1 : ((bytes - 1) >> shift()) + 1;
    return count >= 32 ? kAllLanes : std::rotl((1u << count) - 1, static_cast<int>(lane()));
  }

 private:
  static constexpr uint64_t kPcBits = uint64_t{kMaxPc} << 10, kLaneBits = 31 << 5;

  uint64_t bits_ = 0;  // time 24, agent 12, pc 18, lane 5, shift 3, strong 1, many 1
};

}  // namespace foretoken::sanitizer
