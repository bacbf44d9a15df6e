// The tiled mode of the tensor copies: which elements a box covers and where each lies in shared memory.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "../tensor_map.h"

namespace foretoken::machine {

using TensorCoordinates = std::array<int32_t, kMaxTensorRank>;  // dimension 0 first; 0 behind the rank

// Bytes of the box in shared memory, which is also what it counts on an mbarrier: elements out of bounds included.
uint32_t box_bytes(const TensorMap& map);

// A stretch of one row of the box, contiguous in global memory and in the unswizzled box.
struct BoxRun {
  uint32_t shared_offset = 0;  // from the start of the unswizzled box, bytes
  uint64_t global = 0;         // address; meaningless if not `inside`
  uint32_t bytes = 0;
  bool inside = false;  // in the bounds of the tensor
};

// The runs of the box at `origin`, in the order of shared memory: every byte of the box is in exactly one.
std::vector<BoxRun> box_runs(const TensorMap& map, const TensorCoordinates& origin);

}  // namespace foretoken::machine
