#include "scheduler.h"

#include <algorithm>
#include <sstream>

#include "code.h"

namespace foretoken::machine {

namespace {

// Slices without progress after which nothing can be hoped for.
constexpr uint64_t kPatience = 100'000;

// A split may be woken while it still runs, before it has left the queue.
void enqueue(Launch& launch, Split& split) {
  if (split.run_queue_position >= 0) return;
  split.run_queue_position = static_cast<int32_t>(launch.run_queue.size());
  launch.run_queue.push_back(&split);
}

void dequeue(Launch& launch, Split& split) {
  if (split.run_queue_position < 0) return;
  Split* last = launch.run_queue.back();
  launch.run_queue[static_cast<size_t>(split.run_queue_position)] = last;
  last->run_queue_position = split.run_queue_position;
  launch.run_queue.pop_back();
  split.run_queue_position = -1;
}

bool carries(const Split& split, uint64_t divergence) {
  return std::any_of(split.meetings.begin(), split.meetings.end(),
                     [&](const Meeting& m) { return m.divergence == divergence; });
}

// Whether a split at its innermost meeting point has someone to wait for: not those that sleep, lest one that waits
// blocks another, and not those that are here already.
bool should_wait(const Split& split) {
  const Meeting& meeting = split.meetings.back();
  for (const auto& other : split.warp->splits) {
    if (other.get() == &split || other->state == SplitState::asleep || !carries(*other, meeting.divergence)) continue;
    const bool is_here = other->state == SplitState::parked && other->meetings.back().divergence == meeting.divergence;
    if (!is_here) return true;
  }
  return false;
}

// Joins those that are parked at the split's innermost meeting point, and leaves it behind.
void pass(Launch& launch, Split& split) {
  const uint64_t divergence = split.meetings.back().divergence;
  auto& splits = split.warp->splits;
  for (size_t k = 0; k < splits.size();) {
    Split& other = *splits[k];
    if (&other != &split && other.state == SplitState::parked && other.meetings.back().divergence == divergence) {
      split.lanes |= other.lanes;
      remove_split(launch, other);
    } else {
      ++k;
    }
  }
  split.meetings.pop_back();
}

// At a meeting point. False: the split is parked.
bool meet(Launch& launch, Split& split) {
  while (!split.meetings.empty() && split.meetings.back().pc == split.pc) {
    if (should_wait(split)) {
      split.state = SplitState::parked;
      dequeue(launch, split);
      ++launch.parked_splits;
      return false;
    }
    pass(launch, split);
  }
  return true;
}

void release_parked(Launch& launch, Split& split) {
  launch.make_ready(split);
  pass(launch, split);
}

// A guard that is undefined: harmless for what only writes registers (the result is undefined where it mattered).
bool has_effect(Class category) {
  switch (category) {
    case Class::global_store:
    case Class::shared_store:
    case Class::local_memory:
    case Class::atomic:
    case Class::shuffle:
    case Class::tensor:
    case Class::matrix_load:
    case Class::asynchronous:
    case Class::barrier:
    case Class::control:
    case Class::other: return true;
    default: return false;
  }
}

[[gnu::noinline]] Outcome run_with_undefined_guard(Context& c, const Instruction& i, Mask unknown) {
  if (has_effect(i.category))
    c.fault_undefined(unknown, i.category == Class::control ? "a branch" : "whether an instruction is executed");
  const Outcome outcome = c.lanes ? i.handler(c, i) : Outcome::next;
  c.lanes |= unknown;
  for (int k = 0; k < i.results; ++k) {
    if (i[k].kind == OperandKind::predicate)
      c.predicates[i[k].index].undefined |= unknown;
    else if (i[k].kind == OperandKind::row)
      c.set_undefined(i[k], unknown | c.undefined(i[k]));
  }
  return outcome;
}

void attach(Context& c, Launch& launch, Split& split) {
  Warp& warp = *split.warp;
  c.launch = &launch;
  c.split = &split;
  c.warp = &warp;
  c.block = warp.block;
  c.cluster = warp.block->cluster;
  c.rows[kRegisterFile] = warp.rows;
  c.shadows[kRegisterFile] = warp.shadow;
  c.states[kRegisterFile] = warp.row_state;
  c.undefined_lanes = warp.row_undefined;
  c.predicates = warp.predicates;
  const ConstantRows& constants = launch.constants[std::min<size_t>(warp.block->rank, launch.constants.size() - 1)];
  c.rows[kConstantFile] = constants.values;
  c.shadows[kConstantFile] = constants.shadow;
  c.states[kConstantFile] = constants.states;
}

// What a slice was good for: something changed, or a long stretch without a look at anything that others write; it only
// looked and gave up its turn; or it was too short to tell.
enum class Slice : uint8_t { worked, looked, unclear };

constexpr uint32_t kLongStretch = 256;

Slice run_slice(Launch& launch, Split& split) {
  Context c;
  attach(c, launch, split);
  const Instruction* const code = launch.program;
  uint64_t* const executed = launch.executed.data();
  uint64_t* const lanes_executed = launch.lanes_executed.data();
  const uint32_t length = 1 + launch.random.below(launch.options.longest_slice);
  const uint64_t progress = launch.progress;
  uint32_t done = 0;
  uint32_t pc = split.pc;
  bool gave_up = false;
  while (done < length) {
    const Instruction& i = code[pc];
    if (i.meeting_point && !split.meetings.empty() && split.meetings.back().pc == pc) {
      split.pc = pc;
      if (!meet(launch, split)) break;
    }
    ++done;
    const Predicate guard = c.predicates[i.guard];
    c.lanes = split.lanes & (guard.value ^ i.guard_inversion);
    c.pc = pc;
    ++executed[pc];
    const uint32_t lanes = static_cast<uint32_t>(__builtin_popcount(c.lanes));
    lanes_executed[pc] += lanes;
    Outcome outcome = Outcome::next;
    if (const Mask unknown = guard.undefined & split.lanes) [[unlikely]]
      outcome = run_with_undefined_guard(c, i, unknown);
    else if (c.lanes)
      outcome = i.handler(c, i);
    if (outcome == Outcome::next) [[likely]] {
      ++pc;
      continue;
    }
    if (outcome == Outcome::jump) {
      pc = split.pc;
      continue;
    }
    if (outcome == Outcome::gone) {
      launch.instructions += done;
      return Slice::worked;
    }
    if (outcome == Outcome::yield) {
      ++pc;
    } else {
      // It runs again, and counts once.
      --executed[pc];
      lanes_executed[pc] -= lanes;
    }
    gave_up = true;
    break;
  }
  split.pc = pc;
  launch.instructions += done;
  if (split.state == SplitState::asleep) {
    dequeue(launch, split);
    reconsider_parked(launch, *split.warp);
    return Slice::worked;
  }
  if (launch.progress != progress) return Slice::worked;
  if (gave_up) {
    split.since_look = 0;
    return Slice::looked;
  }
  split.since_look += done;
  return split.since_look > kLongStretch ? Slice::worked : Slice::unclear;
}

// Someone parked goes on without those it waits for. False: nobody is parked.
bool release_any(Launch& launch) {
  if (launch.parked_splits == 0) return false;
  for (const auto& cluster : launch.clusters)
    for (const auto& block : cluster->blocks)
      for (const auto& warp : block->warps)
        for (const auto& split : warp->splits)
          if (split->state == SplitState::parked) {
            release_parked(launch, *split);
            return true;
          }
  return false;
}

uint64_t cluster_size(const LaunchShape& shape) { return shape.cluster.count(); }

// At least two, so that blocks meet; few of them, so that their state stays in the caches.
uint64_t resident_limit(Launch& launch) {
  constexpr uint64_t kMost = 6;
  const uint64_t clusters = launch.shape.grid.count() / cluster_size(launch.shape);
  if (launch.shape.cooperative) return clusters;
  const uint64_t room =
      std::max<uint64_t>(1, uint64_t{launch.shape.sm_count} * launch.shape.blocks_per_sm / cluster_size(launch.shape));
  const uint64_t most = std::min({room, clusters, kMost});
  return most <= 2 ? most : 2 + launch.random.below(static_cast<uint32_t>(most - 1));
}

}  // namespace

void Launch::make_ready(Split& split) {
  if (split.state == SplitState::ready) return;
  if (split.state == SplitState::parked) --parked_splits;
  split.state = SplitState::ready;
  enqueue(*this, split);
}

void Launch::wake(const WaitKey& key) {
  for (const auto& cluster : clusters)
    for (const auto& block : cluster->blocks) wake(key, *block);
}

void Launch::wake(const WaitKey& key, Block& block) {
  ++progress;
  for (const auto& warp : block.warps)
    for (const auto& split : warp->splits)
      if (split->state == SplitState::asleep && split->wait == key) make_ready(*split);
}

void remove_split(Launch& launch, Split& split) {
  if (split.state == SplitState::parked) --launch.parked_splits;
  dequeue(launch, split);
  auto& splits = split.warp->splits;
  splits.erase(std::find_if(splits.begin(), splits.end(), [&](const auto& s) { return s.get() == &split; }));
}

void reconsider_parked(Launch& launch, Warp& warp) {
  if (launch.parked_splits == 0) return;
  for (size_t k = 0; k < warp.splits.size(); ++k) {
    Split& split = *warp.splits[k];
    if (split.state != SplitState::parked || should_wait(split)) continue;
    release_parked(launch, split);
    k = static_cast<size_t>(-1);  // others may have been joined and removed
  }
}

Outcome exit_lanes(Context& c) {
  Launch& launch = *c.launch;
  Warp& warp = *c.warp;
  Block& block = *c.block;
  const Mask leaving = c.lanes;
  Split& split = *c.split;
  warp.live &= ~leaving;
  split.lanes &= ~leaving;
  ++launch.progress;
  const bool gone = split.lanes == 0;
  if (gone) {
    remove_split(launch, split);
    reconsider_parked(launch, warp);
  }
  // Those asleep in Context::assemble look again whether everyone is there.
  for (const auto& other : warp.splits)
    if (other->state == SplitState::asleep && other->wait.object == &warp) launch.make_ready(*other);
  lanes_exited(launch, warp);
  threads_exited(launch, block, static_cast<uint32_t>(__builtin_popcount(leaving)));
  return gone ? Outcome::gone : Outcome::next;
}

void run(Launch& launch) {
  const uint64_t clusters = launch.shape.grid.count() / cluster_size(launch.shape);
  const uint64_t resident = resident_limit(launch);
  uint64_t started = 0, idle = 0;
  while (started < clusters || !launch.clusters.empty()) {
    while (launch.clusters.size() < resident && started < clusters) start_cluster(launch, started++);
    if (launch.run_queue.empty()) {
      if (!complete_any(launch) && !release_any(launch)) report_deadlock(launch, "every thread waits");
      continue;
    }
    Split& split = *launch.run_queue[launch.random.below(static_cast<uint32_t>(launch.run_queue.size()))];
    Cluster& cluster = *split.warp->block->cluster;
    const Slice slice = run_slice(launch, split);
    if (slice == Slice::worked) {
      idle = 0;
    } else if (slice == Slice::looked && ++idle > 4 * launch.run_queue.size() + 8) {
      // Everyone looks and finds nothing: what could still happen has to happen now.
      const bool moved = complete_any(launch) || release_any(launch);
      if (!moved && idle > kPatience + 1000 * launch.run_queue.size())
        report_deadlock(launch, "everyone looks in vain");
      if (moved) idle = 0;
    }
    if (!launch.pending.empty() && launch.options.completion == Completion::random && launch.random.chance(8))
      complete_any(launch);
    if (launch.options.instruction_limit && launch.instructions > launch.options.instruction_limit)
      report_deadlock(launch, "more instructions than the limit");
    if (cluster.live_blocks == 0) end_cluster(launch, cluster);
  }
  while (complete_any(launch)) {
  }
}

}  // namespace foretoken::machine
