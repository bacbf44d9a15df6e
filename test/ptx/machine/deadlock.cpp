// What is said when nothing can go on: where every split stands, whose threads those are, and what they wait for.
#include <algorithm>
#include <sstream>

#include "code.h"
#include "scheduler.h"

namespace foretoken::machine {

namespace {

std::string text(uint32_t x, uint32_t y, uint32_t z) {
  return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

// "threads (0,0,0) to (15,0,0), (31,0,0)": lanes next to each other as a range.
std::string threads_of(const Split& split, const Dimensions& block) {
  const auto thread = [&](int lane) {
    const uint32_t number = split.warp->thread(lane);
    return text(number % block.x, number / block.x % block.y, number / (block.x * block.y));
  };
  std::string result = "threads ";
  for (Mask rest = split.lanes; rest;) {
    const int first = first_lane(rest);
    int last = first;
    while (last + 1 < kLanes && rest >> (last + 1) & 1) ++last;
    for (int lane = first; lane <= last; ++lane) rest &= ~(1u << lane);
    result += thread(first) + (last > first ? " to " + thread(last) : "") + (rest ? ", " : "");
  }
  return result;
}

}  // namespace

void report_deadlock(const Launch& launch, const char* how) {
  constexpr int kMost = 16;
  std::ostringstream report;
  report << "deadlock in kernel " << launch.code->kernel_name() << ": " << how;
  int told = 0, more = 0;
  for (const auto& cluster : launch.clusters)
    for (const auto& block : cluster->blocks)
      for (const auto& warp : block->warps)
        for (const auto& split : warp->splits) {
          if (++told > kMost) {
            ++more;
            continue;
          }
          report << "\n  block " << text(block->index.x, block->index.y, block->index.z) << ", "
                 << threads_of(*split, launch.shape.block) << ", at " << launch.code->place(split->pc) << ": `"
                 << launch.code->text(split->pc) << "`";
          if (split->state == SplitState::asleep) report << ", waits for " << split->waits_for;
          if (split->state == SplitState::parked) report << ", waits for the lanes it parted from";
        }
  if (more) report << "\n  and " << more << " more";
  for (const auto& operation : launch.pending) report << "\n  pending: " << operation->describe();
  throw Fault(FaultKind::deadlock, report.str());
}

}  // namespace foretoken::machine
