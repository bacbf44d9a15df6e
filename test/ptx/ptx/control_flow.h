// Basic blocks and where diverged lanes meet again.
#pragma once
#include <cstdint>
#include <vector>

#include "module.h"

namespace foretoken::ptx {

struct Block {
  uint32_t begin = 0, end = 0;                     // statements [begin, end)
  std::vector<uint32_t> successors, predecessors;  // blocks, each once
};

constexpr uint32_t kNoMeetingPoint = UINT32_MAX;

struct ControlFlow {
  std::vector<Block> blocks;       // in order of the text; blocks[0] is the entry
  std::vector<uint32_t> block_of;  // [statements]
  // [blocks] where lanes that part at the block's last instruction meet again, as a statement: the immediate
  // post-dominator. Where that is only the function's end, since some path leaves early (`if (…) return;`, a failed
  // assertion), the nearest block that both sides can still reach: the lanes that left are not waited for, but lanes
  // may also pass by such a point. kNoMeetingPoint where there is none.
  std::vector<uint32_t> meeting_point;
  // For the branch at `statement`, which is always the last of its block.
  uint32_t meeting_point_of(uint32_t statement) const { return meeting_point[block_of[statement]]; }
};

ControlFlow control_flow(const Module& module, const Function& function);

}  // namespace foretoken::ptx
