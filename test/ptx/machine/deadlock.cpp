#include <sstream>

#include "code.h"
#include "scheduler.h"

namespace foretoken::machine {

void report_deadlock(const Launch& launch, const char* how) {
  constexpr int kMost = 16;
  std::ostringstream text;
  text << "deadlock in kernel " << launch.code->kernel_name() << ": " << how;
  int told = 0, more = 0;
  for (const auto& cluster : launch.clusters)
    for (const auto& block : cluster->blocks)
      for (const auto& warp : block->warps)
        for (const auto& split : warp->splits) {
          if (++told > kMost) {
            ++more;
            continue;
          }
          text << "\n  block (" << block->index.x << "," << block->index.y << "," << block->index.z << ") warp "
               << warp->index << " lanes 0x" << std::hex << split->lanes << std::dec << " at "
               << launch.code->place(split->pc) << ": `" << launch.code->text(split->pc) << "`";
          if (split->state == SplitState::asleep) text << ", waits for " << split->waits_for;
          if (split->state == SplitState::parked) text << ", waits for the lanes it parted from";
        }
  if (more) text << "\n  and " << more << " more";
  for (const auto& operation : launch.pending) text << "\n  pending: " << operation->describe();
  throw Fault(FaultKind::deadlock, text.str());
}

}  // namespace foretoken::machine
