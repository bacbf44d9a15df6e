// How warps and operations come to know of each other: barriers, fences, flags, waits.
#include "machine/async/mbarrier.h"
#include "sanitizer.h"

namespace foretoken::sanitizer {

using machine::AccessKind;
using machine::Context;
using machine::MemoryEvent;
using machine::Order;
using machine::Space;
using machine::SyncEvent;
using machine::SyncKind;

namespace {

bool acquires(Order order) {
  return order == Order::acquire || order == Order::acquire_release || order == Order::sequential;
}
bool releases(Order order) {
  return order == Order::release || order == Order::acquire_release || order == Order::sequential;
}
Reach reach_of(machine::Scope scope) {
  return scope == machine::Scope::block || scope == machine::Scope::cluster ? Reach::block : Reach::device;
}

// Parity of the phase that has not ended, of the mbarrier at a shared address; 0 where there is none.
uint64_t parity_at(const machine::Cluster& cluster, uint64_t address) {
  const uint64_t rank = address >> machine::kSharedRankShift;
  if (rank >= cluster.blocks.size()) return 0;
  const machine::Memory& shared = *cluster.blocks[rank]->shared;
  uint64_t word;
  if (!shared.contains(address) || !shared.contains(address + sizeof word - 1)) return 0;
  std::memcpy(&word, shared.cell(address), sizeof word);
  const auto barrier = machine::MBarrier::decode(word);
  return barrier && barrier->odd;
}

}  // namespace

// --- words that are published through

void Sanitizer::acquire_word(Context& c, ClusterState& state, const MemoryEvent& event) {
  PublishedWords& words = event.space == Space::global ? global_words_ : state.words;
  if (words.empty()) return;
  WarpClock& warp = state.clock(*c.warp);
  for (Mask rest = event.lanes; rest; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    Clock clock;
    if (!words.acquire(event.addresses[lane], event.bytes, state.number, clock)) continue;
    if (acquires(event.order))
      warp.acquire(1u << lane, c.warp->live, clock);
    else
      warp.remember(1u << lane, clock);
  }
}

void Sanitizer::publish_word(Context& c, ClusterState& state, const MemoryEvent& event) {
  PublishedWords& words = event.space == Space::global ? global_words_ : state.words;
  WarpClock& warp = state.clock(*c.warp);
  const bool adds = event.kind == AccessKind::atomic;
  for (Mask rest = event.lanes; rest; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    const uint64_t address = event.addresses[lane];
    if (!adds) words.overwrite(address, event.bytes);
    if (releases(event.order)) {
      Clock clock;
      warp.release(1u << lane, clock);
      words.publish(address, event.bytes, state.number, clock, reach_of(event.scope), true);
    } else {
      warp.for_each_fence(1u << lane, [&](const Clock& clock, Reach reach) {
        words.publish(address, event.bytes, state.number, clock, reach, true);
      });
    }
  }
}

// --- barriers and operations

void Sanitizer::on_sync(Context& c, const SyncEvent& event) {
  ClusterState& state = state_of(*c.cluster);
  const auto barrier = [&]() -> PhasedClock& {
    const auto* object = reinterpret_cast<const machine::NamedBarrier*>(event.object);
    return state.barriers[c.block->rank][static_cast<size_t>(object - c.block->barriers.data())];
  };
  const Mask live = c.warp->live;
  switch (event.kind) {
    case SyncKind::warp: return state.clock(*c.warp).sync(event.lanes, live);
    case SyncKind::barrier_arrive:
      return arrive(c, state, barrier().arriving(event.phase), event.lanes, Order::release);
    case SyncKind::barrier_leave: {
      WarpClock& warp = state.clock(*c.warp);
      warp.acquire(event.lanes, live, barrier().leaving(event.phase));
      if ((live & ~event.lanes) == 0) warp.agree();
      return;
    }
    case SyncKind::cluster_arrive:
      return arrive(c, state, state.cluster_barrier.arriving(c.cluster->barrier_phase), event.lanes, event.order);
    case SyncKind::cluster_leave:
      return state.clock(*c.warp).acquire(event.lanes, live,
                                          state.cluster_barrier.leaving(c.cluster->barrier_phase - 1));
    case SyncKind::mbarrier_arrive: return arrive_at_mbarrier(c, state, event);
    case SyncKind::mbarrier_leave: return leave_mbarrier(c, state, event);
    case SyncKind::fence: return state.clock(*c.warp).fence(event.lanes, live, reach_of(event.scope));
    case SyncKind::proxy_fence: return state.clock(*c.warp).proxy_fence(event.lanes, live);
    case SyncKind::agent_start: return start_operation(c, state, event);
    case SyncKind::agent_commit: state.open_products[state.agent(*c.warp)] = 0; return;
    case SyncKind::agent_complete:
      if (Operation* operation = operations_.find(event.object)) operation->clock = nullptr;
      return;
    case SyncKind::agent_join:
    case SyncKind::agent_join_reads: return join_operation(c, state, event);
  }
}

// A relaxed arrival publishes what lies before the last fence.
void Sanitizer::arrive(Context& c, ClusterState& state, Clock& at, Mask lanes, Order order) {
  WarpClock& warp = state.clock(*c.warp);
  if (order == Order::relaxed)
    warp.for_each_fence(lanes, [&](const Clock& clock, Reach) { at.join(clock); });
  else
    warp.release(lanes, at);
}

// Whoever uses an mbarrier does so after its mbarrier.init.
void Sanitizer::touch_mbarrier(Context& c, const SyncEvent& event) {
  uint64_t addresses[machine::kLanes];
  std::fill_n(addresses, machine::kLanes, event.object);
  on_access(c, {.space = Space::shared,
                .order = Order::relaxed,
                .lanes = event.lanes,
                .addresses = addresses,
                .bytes = sizeof(uint64_t)});
}

void Sanitizer::arrive_at_mbarrier(Context& c, ClusterState& state, const SyncEvent& event) {
  MBarrierState& mbarrier = state.mbarrier(event.object);
  Clock& clock = mbarrier.clock.arriving(parity_at(*c.cluster, event.object));
  if (event.agent == 0) {
    touch_mbarrier(c, event);
    return arrive(c, state, clock, event.lanes, event.order);
  }
  const Operation* operation = operations_.find(event.agent);
  if (!operation) return;
  if (operation->kind == OperationKind::arrival)
    clock.local.seen.learn(operation->warp + state.warp_count * kCopies, operation->time, event.lanes);
  else
    clock.local.seen.learn(mbarrier.channel, operation->time, kAllLanes);
}

void Sanitizer::leave_mbarrier(Context& c, ClusterState& state, const SyncEvent& event) {
  const MBarrierState& mbarrier = state.mbarrier(event.object);
  const uint64_t ended = 1 - parity_at(*c.cluster, event.object);
  touch_mbarrier(c, event);
  if (event.order == Order::relaxed) return;
  state.clock(*c.warp).acquire(event.lanes, c.warp->live, mbarrier.clock.leaving(ended));
}

void Sanitizer::start_operation(Context& c, ClusterState& state, const SyncEvent& event) {
  constexpr uint64_t kRemembered = 1 << 20;
  WarpClock& warp = state.clock(*c.warp);
  if (event.object > kRemembered) operations_.forget_before(event.object - kRemembered);
  Operation* known = operations_.find(event.object);
  Operation& operation = known ? *known : operations_.add(event.object);
  if (operation.kind == OperationKind::unknown) {
    operation.kind = operation_kind(*c.launch->code, c.pc);
    // What is committed together is waited for together: one time, so that the shadow sees one reader.
    uint32_t& open = state.open_products[warp.agent()];
    operation.time = operation.kind == OperationKind::product && open ? open : ++state.operations;
    if (operation.kind == OperationKind::product) open = operation.time;
    operation.warp = warp.agent();
    operation.pc = c.pc;
    operation.lanes = event.lanes;
    operation.mbarrier = event.barrier;
  }
  if (operation.kind == OperationKind::product) {
    // Of four warps.
    auto clock = operation.clock ? std::make_shared<Clock>(*operation.clock) : std::make_shared<Clock>();
    warp.release(event.lanes, *clock);
    operation.clock = std::move(clock);
    return;
  }
  operation.until = warp.now();
  operation.copied = Epoch::kMaxTime;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (event.lanes >> lane & 1)
      operation.copied = std::min(operation.copied, warp.own_until(lane, warp.agent() + state.warp_count * kCopies));
  operation.clock = warp.snapshot(event.lanes);
  warp.advance();
}

void Sanitizer::join_operation(Context& c, ClusterState& state, const SyncEvent& event) {
  const Operation* operation = operations_.find(event.object);
  if (!operation) return;
  WarpClock& warp = state.clock(*c.warp);
  const auto join = [&](Channel channel) {
    warp.join(event.lanes, c.warp->live, operation->warp + state.warp_count * channel, operation->time);
  };
  switch (operation->kind) {
    case OperationKind::copy: return warp.join_copies(event.lanes, operation->time);
    case OperationKind::product: return join(kProducts);
    case OperationKind::store:
      join(kBulkReads);
      if (event.kind == SyncKind::agent_join) join(kBulkWrites);
      return;
    default: return;
  }
}

}  // namespace foretoken::sanitizer
