// Whether an access is ordered after those that the shadow remembers, and remembering it.
#pragma once
#include "operations.h"
#include "shadow.h"
#include "warp_clock.h"

namespace foretoken::sanitizer {

// What whoever accesses knows.
struct Actor {
  uint32_t cluster = 0;
  uint32_t warps = 0;               // of the cluster: agents below are warps
  const Clock* clock = nullptr;     // known to all lanes
  const WarpClock* warp = nullptr;  // a warp; or, for an asynchronous operation, null and:
  const Operation* operation = nullptr;
  Mask lanes = 0;  // that execute

  // Up to this time the lane's own accesses as that agent come before.
  uint32_t own_until(uint32_t lane, uint32_t agent) const {
    if (warp) return warp->own_until(lane, agent);
    if (agent == operation->warp) return operation->until;
    return agent == operation->warp + warps * kCopies ? operation->copied : 0;
  }
};

struct Access {
  Epoch epoch;  // without lanes
  bool is_write = false;
  bool behind_proxy = false;  // a read by the asynchronous proxy: the generic proxy's writes need a fence
};

struct Conflict {
  enum class Kind : uint8_t { none, race, missing_proxy_fence };
  Kind kind = Kind::none;
  Reader earlier;
  bool earlier_is_write = false;
  uint64_t address = 0;
  uint32_t bytes = 0;  // of the cell
  uint32_t lane = 0;   // of the later access
};

// The accesses of one instruction, or of one piece of an operation, in the order of execution.
class Visitor {
 public:
  // All three outlive it.
  Visitor(Shadow& shadow, const Actor& actor, const Access& access)
      : shadow_(shadow), actor_(actor), access_(access), same_for_all_lanes_(!actor.warp) {}

  // `bytes` for each of the lanes at its address. Checks and remembers up to the first conflict; false: there is one.
  bool visit(const uint64_t* addresses, Mask lanes, uint32_t bytes);
  // `bytes` at one address, all of them one lane's.
  bool visit_piece(uint64_t address, uint64_t bytes, uint32_t lane = 0);
  const Conflict& conflict() const { return conflict_; }

 private:
  // The last answer to whether this access is after another. Cells next to each other ask the same.
  struct Answer {
    Reader earlier;
    bool is_after = false;
  };
  // Consecutive lanes on consecutive bytes: byte b is lane `lane` + (b >> shift)'s.
  struct Stretch {
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint32_t lane = 0;
    uint32_t shift = 31;
    bool broadcast = false;  // read by several lanes
  };
  bool visit_stretch();
  bool visit_line(Line& line, uint64_t at, uint32_t from, uint32_t bytes);
  bool write_line(Line& line, Epoch later, const Words& words);
  bool read_line(Line& line, Epoch later, const Words& words);
  bool is_surely_after(Epoch later, const Words& words, const LineAccess& earlier) const;
  void remember(LineAccess& slot, Epoch later, const Words& words);
  bool concerns(const LineAccess& earlier, const Words& words) const;
  bool is_surely_after(Epoch later, Epoch earlier, uint32_t cluster) const;
  bool visit(Cell& cell, uint32_t size, uint64_t at, uint32_t from, uint32_t bytes);
  bool visit_split(Cell& cell, uint32_t size, uint64_t at, uint32_t from, uint32_t bytes);
  bool write(Cell& cell, uint32_t size, uint64_t at);
  bool read(Cell& cell, uint32_t size, uint64_t at);
  bool check_write(const Cell& cell, Epoch later, uint64_t at, uint32_t size);
  bool check_read(const Reader& earlier, Epoch later, uint64_t at, uint32_t size);
  bool replace(Epoch& epoch, uint32_t& cluster, Epoch later, uint32_t size, Answer& answer);
  void add_reader(Cell& cell, Epoch later, uint32_t size);
  bool is_after(Epoch later, const Reader& earlier, uint32_t bytes, Answer& answer) const;
  bool is_after_exactly(Epoch later, const Reader& earlier, uint32_t bytes) const;
  bool is_fenced(const Reader& earlier, uint32_t bytes) const;
  bool fail(const Reader& earlier, bool is_write, Epoch later, uint64_t at, uint32_t size, Conflict::Kind kind);
  Epoch epoch(uint64_t at, uint32_t size) const;

  Shadow& shadow_;
  const Actor& actor_;
  const Access& access_;
  const bool same_for_all_lanes_;
  Stretch stretch_;
  Conflict conflict_;
  Answer write_answer_, read_answers_[Cell::kReaders];
};

}  // namespace foretoken::sanitizer
