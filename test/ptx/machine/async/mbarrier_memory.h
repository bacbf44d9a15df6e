// mbarriers where they lie: in shared memory, with those who wait for them.
#pragma once
#include "../access.h"
#include "mbarrier.h"

namespace foretoken::machine {

// What sleeps until a phase of the mbarrier at this address (rank << 24 | offset) ends.
inline WaitKey mbarrier_key(const Block& block, uint64_t address) { return {&block, address}; }

// The state at a shared address; faults if there is no initialised mbarrier.
MBarrier read_mbarrier(const Context& c, int lane, const Block& block, uint64_t address);

// Reads the state, lets `operate` (MBarrier& → MBarrier::Result) change it, and wakes those who wait if that ended the
// phase. `block` is the one that holds the mbarrier; c and lane are for messages.
template <class Operate>
void update_mbarrier(const Context& c, int lane, Block& block, uint64_t address, Operate operate);

void initialize_mbarrier(const Context& c, int lane, Block& block, uint64_t address, uint32_t count);
void invalidate_mbarrier(const Context& c, int lane, Block& block, uint64_t address);

// --- the rest is update_mbarrier's
void write_mbarrier(Block& block, uint64_t address, const MBarrier& barrier);
void check_mbarrier_result(const Context& c, int lane, const MBarrier& before, MBarrier::Result result);

template <class Operate>
void update_mbarrier(const Context& c, int lane, Block& block, uint64_t address, Operate operate) {
  MBarrier barrier = read_mbarrier(c, lane, block, address);
  const MBarrier before = barrier;
  const MBarrier::Result result = operate(barrier);
  check_mbarrier_result(c, lane, before, result);
  write_mbarrier(block, address, barrier);
  ++c.launch->progress;
  if (result.completed) c.launch->wake(mbarrier_key(block, address), block);
}

}  // namespace foretoken::machine
