#include "block_state.h"

#include "bulk_copy.h"

namespace foretoken::machine {

// On hardware the shared memory goes to the next block at once.
void BlockState::threads_exited(Launch&, Block& block) {
  if (!block.exited || bulk_reads.empty()) return;
  const BulkRead& read = *bulk_reads.front();
  read.context.fault(FaultKind::usage, first_lane(read.context.lanes),
                     "the block exited before this bulk copy had read its shared memory: nobody waited for it");
}

}  // namespace foretoken::machine
