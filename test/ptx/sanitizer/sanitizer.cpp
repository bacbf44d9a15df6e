#include "sanitizer.h"

namespace foretoken::sanitizer {

using machine::AccessKind;
using machine::Context;
using machine::FaultKind;
using machine::MemoryEvent;
using machine::Order;
using machine::Space;

namespace {

constexpr uint64_t kSharedWindowOfBlock = uint64_t{1} << 18;  // no block has more shared memory
constexpr uint64_t kOffsetMask = (uint64_t{1} << machine::kSharedRankShift) - 1;

bool is_strong(const MemoryEvent& event) { return event.kind == AccessKind::atomic || event.order != Order::weak; }

}  // namespace

Sanitizer::Sanitizer(uint64_t base, uint64_t bytes) : global_(base, bytes, false) {}

// --- launches and clusters

void Sanitizer::on_launch(machine::Launch& launch) {
  forget_ended({});
  operations_.clear();
  global_words_.clear();
  global_.reuse(global_.base(), global_.bytes(), next_cluster_);
  launches_.push_back({next_cluster_, launch.code->kernel_name(), launch.code, launch.shape});
}

void Sanitizer::on_block_start(machine::Block& block) {
  const machine::Cluster& cluster = *block.cluster;
  if (block.rank == 0) {
    forget_ended(cluster.launch->clusters);
    clusters_[&cluster] = std::make_unique<ClusterState>(
        cluster, next_cluster_++, static_cast<uint32_t>(cluster.launch->shape.cluster.count()), block.threads);
  }
  ClusterState& state = state_of(cluster);
  if (free_shadows_.empty()) free_shadows_.push_back(std::make_unique<Shadow>(0, kSharedWindowOfBlock, true));
  state.shared[block.rank] = std::move(free_shadows_.back());
  free_shadows_.pop_back();
  state.shared[block.rank]->reuse(block.shared->base(), block.shared->size(), state.number);
}

// All clusters but those that are resident.
void Sanitizer::forget_ended(std::span<const std::unique_ptr<machine::Cluster>> resident) {
  latest_ = nullptr;
  std::erase_if(clusters_, [&](auto& entry) {
    if (std::any_of(resident.begin(), resident.end(), [&](const auto& c) { return c.get() == entry.first; }))
      return false;
    for (auto& shadow : entry.second->shared)
      if (shadow) free_shadows_.push_back(std::move(shadow));
    return true;
  });
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

Sanitizer::Accessor Sanitizer::accessor(Context& c, ClusterState& state, const MemoryEvent& event,
                                        const Operation* operation) {
  Accessor result;
  Actor& actor = result.actor;
  actor.cluster = state.number;
  actor.warps = state.warp_count;
  actor.lanes = event.lanes;
  if (!operation) {
    const WarpClock& clock = state.clock(*c.warp);
    actor.warp = &clock;
    actor.clock = &clock.common();
    result.epoch = Epoch(clock.now(), clock.agent(), c.pc, is_strong(event));
    return result;
  }
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
  const Operation* operation = event.agent ? operations_.find(event.agent) : nullptr;
  if (event.agent && (!operation || !operation->clock)) return;  // started so long ago that it is forgotten
  if (strong && event.kind != AccessKind::write) acquire_word(c, state, event);
  const Accessor by = accessor(c, state, event, operation);
  const bool is_write = event.kind != AccessKind::read;
  const Access what{by.epoch, is_write, !is_write && event.proxy == machine::Proxy::asynchronous};
  Mask rest = event.lanes;
  if (event.kind == AccessKind::write && !operation) check_same_instruction(c, event, rest);
  Visitor visitor(*shadow, by.actor, what);
  if (operation && operation->kind != OperationKind::copy) {
    for (; rest; rest &= rest - 1)
      if (!visitor.visit_piece(event.addresses[__builtin_ctz(rest)], event.bytes)) report(c, event, visitor.conflict());
  } else {
    while (!visitor.visit(event.addresses, rest, event.bytes)) {
      const Conflict& conflict = visitor.conflict();
      if (!is_benign(c, event, conflict)) report(c, event, conflict);
      rest &= ~((2u << conflict.lane) - 1);
    }
  }
  if (strong && is_write) publish_word(c, state, event);
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

// A lane's write of what is there already.
bool Sanitizer::is_benign(const Context& c, const MemoryEvent& event, const Conflict& conflict) const {
  if (!conflict.earlier_is_write || !event.values || conflict.kind != Conflict::Kind::race) return false;
  const uint64_t address = event.addresses[conflict.lane];
  const machine::Memory& memory =
      event.space == Space::global ? c.global() : *c.cluster->blocks[address >> machine::kSharedRankShift]->shared;
  const auto* value = static_cast<const uint8_t*>(event.values) + event.bytes * conflict.lane;
  return !memory.undefined(address, event.bytes) && std::memcmp(value, memory.cell(address), event.bytes) == 0;
}

}  // namespace foretoken::sanitizer
