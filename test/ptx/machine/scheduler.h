// Which split runs next, for how long; how splits part, meet and end.
#pragma once
#include "machine.h"

namespace foretoken::machine {

// Runs a grid to its end. Throws Fault.
void run(Launch& launch);

// --- for instructions
// Ends a split whose lanes are all gone or have joined another.
void remove_split(Launch& launch, Split& split);
// The lanes of c exit the kernel. Returns gone if that was all of the split.
Outcome exit_lanes(Context& c);
// Lets the parked splits of a warp go on that need not wait any more: after one of its splits fell asleep or ended.
void reconsider_parked(Launch& launch, Warp& warp);

// Lets warp-level syncs go on that wait for lanes which have exited (rendezvous.cpp).
void lanes_exited(Launch& launch, Warp& warp);

// --- between the scheduler's files
// Completes one pending operation that may complete; false if there is none (pending.cpp).
bool complete_any(Launch& launch);
// Faults with the place of every split (deadlock.cpp).
[[noreturn]] void report_deadlock(const Launch& launch, const char* how);

// --- for the launch: grid.cpp
void start_cluster(Launch& launch, uint64_t number);
void end_cluster(Launch& launch, Cluster& cluster);
// Completes barriers that wait for the whole block or cluster, after threads have exited.
void threads_exited(Launch& launch, Block& block, uint32_t threads);

}  // namespace foretoken::machine
