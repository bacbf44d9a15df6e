// What is kept of a cluster while it runs: its warps' clocks, its barriers, the shadow of its shared memory.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "machine/machine.h"
#include "meetings.h"
#include "shadow.h"

namespace foretoken::sanitizer {

struct MBarrierState {
  uint32_t channel = 0;  // of the operations whose bytes come to it
  uint32_t issuer = 0;   // warp of the last of them
  PhasedClock clock;
};

class ClusterState {
 public:
  ClusterState(const machine::Cluster& cluster, uint32_t number, uint32_t blocks, uint32_t threads_per_block);

  const machine::Cluster* const cluster;
  const uint32_t number;  // never used twice
  const uint32_t warps_per_block, warp_count;
  std::vector<WarpClock> warps;
  std::vector<std::array<PhasedClock, machine::kBarriers>> barriers;  // [block]
  PhasedClock cluster_barrier;
  PublishedWords words;                         // of shared memory
  std::vector<std::unique_ptr<Shadow>> shared;  // [block]
  uint32_t operations = 0;                      // started so far
  std::vector<uint32_t> open_products;          // [warp] time of the wgmmas that it has not committed; 0: none

  uint32_t agent(const machine::Warp& warp) const { return warp.block->rank * warps_per_block + warp.index; }
  WarpClock& clock(const machine::Warp& warp) { return warps[agent(warp)]; }
  // By shared address: rank << 24 | offset. Made on first use.
  MBarrierState& mbarrier(uint64_t address);
  // The warp that a channel's operations come from.
  uint32_t warp_of(uint32_t agent) const;

 private:
  std::unordered_map<uint64_t, MBarrierState> mbarriers_;
};

}  // namespace foretoken::sanitizer
