#include "cluster_state.h"

namespace foretoken::sanitizer {

ClusterState::ClusterState(const machine::Cluster& its_cluster, uint32_t its_number, uint32_t blocks,
                           uint32_t threads_per_block)
    : cluster(&its_cluster),
      number(its_number),
      warps_per_block((threads_per_block + machine::kLanes - 1) / machine::kLanes),
      warp_count(blocks * warps_per_block),
      barriers(blocks),
      shared(blocks),
      open_products(warp_count, 0) {
  for (uint32_t agent = 0; agent < warp_count; ++agent) {
    const uint32_t threads = threads_per_block - agent % warps_per_block * machine::kLanes;
    const Mask exists = threads >= machine::kLanes ? kAllLanes : (1u << threads) - 1;
    warps.emplace_back(agent, agent + warp_count * kCopies, exists);
  }
}

MBarrierState& ClusterState::mbarrier(uint64_t address) {
  const auto [it, is_new] = mbarriers_.try_emplace(address);
  // More mbarriers than agents there are numbers for share theirs: then a missing wait may go unseen.
  const uint32_t first = kTransactions * warp_count, index = static_cast<uint32_t>(mbarriers_.size()) - 1;
  if (is_new) it->second.channel = first + index % (Epoch::kMaxAgent - first);
  return it->second;
}

uint32_t ClusterState::warp_of(uint32_t agent) const {
  if (agent < kTransactions * warp_count) return agent % warp_count;
  for (const auto& [address, mbarrier] : mbarriers_)
    if (mbarrier.channel == agent) return mbarrier.issuer;
  return 0;
}

}  // namespace foretoken::sanitizer
