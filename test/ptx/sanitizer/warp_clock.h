// What a warp knows, down to its lanes.
//
// Lanes of a warp are ordered among themselves by bar.warp.sync and by barriers of the block alone, and what one lane
// has acquired is known to the others only after such a sync. As long as a warp acts as one none of that costs
// anything.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "clock.h"

namespace foretoken::sanitizer {

// Who may see what is published: membar.cta is of no use to another block.
enum class Reach : uint8_t { block, device };

class WarpClock {
 public:
  // `copies` is the channel of its cp.async, whose effects belong to the lanes that waited for them; `exists` are the
  // lanes that there are.
  WarpClock(uint32_t agent, uint32_t copies, Mask exists)
      : agent_(agent), copies_(copies), absent_(~exists), common_(std::make_shared<Clock>()) {}

  uint32_t agent() const { return agent_; }
  uint32_t now() const { return now_; }
  const Clock& common() const { return *common_; }

  // --- events; `live` are the warp's lanes that have not exited. An exit publishes nothing.
  // What these lanes know and have done is published into the clock.
  void release(Mask lanes, Clock& into);
  void acquire(Mask lanes, Mask live, const Clock& from);
  // A barrier of the block is behind all lanes: they know alike.
  void agree() {
    partial_.clear();
    synced_.reset();
  }
  void sync(Mask lanes, Mask live);         // bar.warp.sync
  void proxy_fence(Mask lanes, Mask live);  // fence.proxy.async
  void fence(Mask lanes, Mask live, Reach reach);
  // visit(clock, reach) for each fence that lies behind any of the lanes: what a relaxed write publishes.
  template <class Visit>
  void for_each_fence(Mask lanes, Visit visit) const {
    for (const Fence& fence : fences_)
      if (fence.lanes & lanes) visit(fence.clock, fence.reach);
  }
  // Read by a relaxed access: known after the next fence.
  void remember(Mask lanes, const Clock& clock);
  // These lanes have waited for their own copies up to that time; or for all of an operation of another channel.
  void join_copies(Mask lanes, uint32_t time);
  void join(Mask lanes, Mask live, uint32_t channel, uint32_t time) {
    clock_of(lanes, live).local.seen.learn(channel, time, kAllLanes);
  }
  // What follows is not part of what was published so far.
  void advance() { now_ += now_ < Epoch::kMaxTime; }

  // --- questions
  // What these lanes know, without their own accesses since their last release. Never changes.
  std::shared_ptr<const Clock> snapshot(Mask lanes) const;
  // Whether this lane knows of accesses by lanes of an agent of its cluster, its own program order aside.
  bool lane_knows(uint32_t lane, uint32_t agent, uint32_t time, Mask lanes) const;
  // Program order: up to this time the lane's own accesses, by itself or by cp.async, lie before what it does now.
  uint32_t own_until(uint32_t lane, uint32_t agent) const {
    return agent == agent_ ? now_ : agent == copies_ ? copied_[lane] : 0;
  }
  bool lane_knows_remote(uint32_t lane, uint32_t cluster, uint32_t agent, uint32_t time, Mask lanes) const;

 private:
  struct Partial {
    Mask lanes;
    Clock clock;
  };
  struct Fence {
    Mask lanes;
    Reach reach;
    Clock clock;
  };
  Clock& change_common() {
    if (common_.use_count() > 1) common_ = std::make_shared<Clock>(*common_);
    return *common_;
  }
  Clock& clock_of(Mask lanes, Mask live);
  void learn_synced(Mask lanes, Clock& into) const;
  void learn_copies(Mask lanes, Clock& into) const;

  uint32_t agent_, copies_, now_ = 1;
  Mask absent_;
  bool copies_joined_ = false;
  std::array<uint32_t, 32> copied_{};  // [lane] time of the last copy of its own that it waited for
  std::shared_ptr<Clock> common_;      // shared with snapshots
  std::vector<Partial> partial_;       // known to some lanes
  std::vector<Fence> fences_;          // each lane's last
  std::vector<Partial> unfenced_;      // read by relaxed accesses
  // [lane][of] time up to which a lane knows another's accesses by syncs of some lanes.
  std::unique_ptr<std::array<std::array<uint32_t, 32>, 32>> synced_;
};

}  // namespace foretoken::sanitizer
