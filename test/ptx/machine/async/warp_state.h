// What a warp has under way: copies, bulk copies, products, and its polling of mbarriers.
#pragma once
#include <memory>

#include "../tensor/warp_products.h"
#include "commit_groups.h"

namespace foretoken::machine {

struct BulkRead;

// The last mbarrier.try_wait that found its phase unfinished.
struct Poll {
  uint32_t pc = 0;
  uint64_t address = 0;
  uint32_t failures = 0;
};

struct WarpState : Extension {
  CommitGroups<uint64_t> copies;                 // cp.async: operations
  CommitGroups<std::shared_ptr<BulkRead>> bulk;  // bulk copies out of shared memory
  WarpProducts products;                         // wgmma
  Poll poll;
};

inline WarpState& warp_state(Warp& warp) {
  if (!warp.asynchronous) warp.asynchronous = std::make_unique<WarpState>();
  return static_cast<WarpState&>(*warp.asynchronous);
}

}  // namespace foretoken::machine
