#include "sanitizer.h"

#include "machine/async/mbarrier.h"

namespace foretoken::sanitizer {

using machine::AccessKind;
using machine::Context;
using machine::FaultKind;
using machine::MemoryEvent;
using machine::Order;
using machine::Space;
using machine::SyncEvent;
using machine::SyncKind;

namespace {

constexpr uint64_t kSharedWindowOfBlock = uint64_t{1} << 18;  // no block has more shared memory
constexpr uint64_t kOffsetMask = (uint64_t{1} << machine::kSharedRankShift) - 1;

bool is_strong(const MemoryEvent& event) { return event.kind == AccessKind::atomic || event.order != Order::weak; }
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

Sanitizer::Sanitizer(uint64_t base, uint64_t bytes) : global_(base, bytes, false) {}

// --- launches and clusters

void Sanitizer::on_launch(machine::Launch& launch) {
  clusters_.clear();
  latest_ = nullptr;
  operations_.clear();
  global_words_.clear();
  global_.reuse(global_.base(), global_.bytes(), next_cluster_);
  launches_.push_back({next_cluster_, launch.code->kernel_name(), launch.code, launch.shape});
}

void Sanitizer::on_launch_end(machine::Launch&) {
  clusters_.clear();
  latest_ = nullptr;
}

void Sanitizer::on_block_start(machine::Block& block) {
  const machine::Cluster& cluster = *block.cluster;
  if (block.rank == 0) {
    // Clusters that have ended; their address may be this one's.
    std::erase_if(clusters_, [&](auto& entry) {
      const auto& resident = cluster.launch->clusters;
      const bool ended = entry.first == &cluster || std::none_of(resident.begin(), resident.end(),
                                                                 [&](const auto& c) { return c.get() == entry.first; });
      if (ended)
        for (auto& shadow : entry.second->shared)
          if (shadow) free_shadows_.push_back(std::move(shadow));
      return ended;
    });
    latest_ = nullptr;
    clusters_[&cluster] = std::make_unique<ClusterState>(
        cluster, next_cluster_++, static_cast<uint32_t>(cluster.launch->shape.cluster.count()), block.threads);
  }
  ClusterState& state = state_of(cluster);
  if (free_shadows_.empty()) free_shadows_.push_back(std::make_unique<Shadow>(0, kSharedWindowOfBlock, true));
  state.shared[block.rank] = std::move(free_shadows_.back());
  free_shadows_.pop_back();
  state.shared[block.rank]->reuse(block.shared->base(), block.shared->size(), state.number);
}

ClusterState& Sanitizer::state_of(const machine::Cluster& cluster) {
  if (!latest_ || latest_->cluster != &cluster) latest_ = clusters_.at(&cluster).get();
  return *latest_;
}

// --- accesses

Shadow* Sanitizer::shadow_of(ClusterState& state, const MemoryEvent& event) {
  if (event.space == Space::global) return &global_;
  if (event.space != Space::shared) return nullptr;
  const uint64_t rank = event.addresses[__builtin_ctz(event.lanes)] >> machine::kSharedRankShift;
  return rank < state.shared.size() ? state.shared[rank].get() : nullptr;
}

Sanitizer::Accessor Sanitizer::accessor(Context& c, ClusterState& state, const MemoryEvent& event) {
  Accessor result;
  Actor& actor = result.actor;
  actor.cluster = state.number;
  actor.warps = state.warp_count;
  actor.lanes = event.lanes;
  if (event.agent == 0) {
    const WarpClock& clock = state.clock(*c.warp);
    actor.warp = &clock;
    actor.clock = &clock.common();
    result.epoch = Epoch(clock.now(), clock.agent(), c.pc, is_strong(event));
    return result;
  }
  const Operation* operation = operations_.find(event.agent);
  actor.operation = operation;
  actor.clock = operation->clock.get();
  uint32_t agent = operation->warp;
  switch (operation->kind) {
    case OperationKind::store:
      agent += state.warp_count * (event.space == Space::shared ? kBulkReads : kBulkWrites);
      break;
    case OperationKind::product: agent += state.warp_count * kProducts; break;
    case OperationKind::load: {
      // The copies of a multicast come to an mbarrier of each block.
      const uint64_t block =
          event.kind == AccessKind::write && event.space == Space::shared ? event.addresses[0] : operation->mbarrier;
      MBarrierState& mbarrier = state.mbarrier((block & ~kOffsetMask) | (operation->mbarrier & kOffsetMask));
      mbarrier.issuer = operation->warp;
      agent = mbarrier.channel;
      break;
    }
    default: agent += state.warp_count * kCopies;
  }
  result.epoch = Epoch(operation->time, agent, operation->pc, event.kind == AccessKind::atomic);
  return result;
}

void Sanitizer::on_access(Context& c, const MemoryEvent& event) {
  if (event.lanes == 0) return;
  ClusterState& state = state_of(*c.cluster);
  Shadow* shadow = shadow_of(state, event);
  if (!shadow) return;
  const bool strong = event.agent == 0 && is_strong(event);
  if (strong && event.kind != AccessKind::write) acquire_word(c, state, event);
  const Accessor by = accessor(c, state, event);
  const bool is_write = event.kind != AccessKind::read;
  const Access what{by.epoch, is_write, !is_write && event.proxy == machine::Proxy::asynchronous};
  Mask rest = event.lanes;
  if (event.kind == AccessKind::write && event.agent == 0) check_same_instruction(c, event, rest);
  Visitor visitor(*shadow, by.actor, what);
  bool in_order = true;
  if (event.agent == 0 || operations_.find(event.agent)->kind == OperationKind::copy) {
    in_order = visitor.visit(event.addresses, rest, event.bytes);
  } else {
    for (; rest && in_order; rest &= rest - 1)
      in_order = visitor.visit_piece(event.addresses[__builtin_ctz(rest)], event.bytes, 0);
  }
  if (!in_order && !is_benign(c, event, visitor.conflict())) report(c, event, visitor.conflict());
  if (strong && event.kind != AccessKind::read) publish_word(c, state, event);
}

// Lanes that write to one address at once: which of them wins is not told.
void Sanitizer::check_same_instruction(Context& c, const MemoryEvent& event, Mask& lanes) const {
  uint64_t greatest = 0;
  bool ascending = true;
  for (Mask rest = lanes; rest; rest &= rest - 1) {
    const uint64_t address = event.addresses[__builtin_ctz(rest)];
    ascending = ascending && address >= greatest;
    greatest = address + event.bytes;
  }
  if (ascending) return;
  constexpr uint32_t kSlots = 128;
  uint8_t slots[kSlots];
  std::memset(slots, 0xff, sizeof slots);
  for (Mask rest = lanes; rest; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    uint32_t slot = static_cast<uint32_t>(event.addresses[lane] / event.bytes) % kSlots;
    while (slots[slot] != 0xff && event.addresses[slots[slot]] != event.addresses[lane]) slot = (slot + 1) % kSlots;
    if (slots[slot] == 0xff) {
      slots[slot] = static_cast<uint8_t>(lane);
      continue;
    }
    lanes &= ~(1u << lane);
    if (!event.values || event.order != Order::weak) continue;
    const auto* values = static_cast<const uint8_t*>(event.values);
    if (std::memcmp(values + event.bytes * slots[slot], values + event.bytes * static_cast<uint32_t>(lane),
                    event.bytes) != 0)
      c.fault(FaultKind::race, lane,
              "race: lanes " + std::to_string(slots[slot]) + " and " + std::to_string(lane) +
                  " of the warp write different values to one address at once");
  }
}

// A write of what is there already.
bool Sanitizer::is_benign(const Context& c, const MemoryEvent& event, const Conflict& conflict) const {
  if (!conflict.earlier_is_write || !event.values || conflict.kind != Conflict::Kind::race) return false;
  const auto* values = static_cast<const uint8_t*>(event.values);
  for (Mask rest = event.lanes; rest; rest &= rest - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(rest));
    const uint64_t address = event.addresses[lane];
    const machine::Memory& memory =
        event.space == Space::global ? c.global() : *c.cluster->blocks[address >> machine::kSharedRankShift]->shared;
    if (!memory.contains(address) || memory.undefined(address, event.bytes) ||
        std::memcmp(values + event.bytes * lane, memory.cell(address), event.bytes) != 0)
      return false;
  }
  return true;
}

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
