// What a block has under way: its warpgroups' products, and who still reads its shared memory.
#pragma once
#include "../tensor/warp_products.h"

namespace foretoken::machine {

struct BulkRead;

struct BlockState : Extension {
  std::vector<Warpgroup> warpgroups;
  ProductList reading;                                // products that no warp has waited for yet
  std::vector<std::shared_ptr<BulkRead>> bulk_reads;  // unfinished

  void threads_exited(Launch& launch, Block& block) override;
};

inline BlockState& block_state(Block& block) {
  if (!block.asynchronous) block.asynchronous = std::make_unique<BlockState>();
  return static_cast<BlockState&>(*block.asynchronous);
}

}  // namespace foretoken::machine
