// Clusters: addresses of other blocks' shared memory, and the barrier of all their threads.
#include "cluster.h"

#include "shared_address.h"

namespace foretoken::machine {
namespace {

constexpr uint64_t kOffsetMask = (1u << kSharedRankShift) - 1;

// --- mapa, getctarank

enum Parameter { kSpelling };

// An address of the executing block's window, or of the cluster's.
uint64_t shared_of(Context& c, const Instruction& i, int lane, uint64_t address) {
  const bool generic = static_cast<SharedSpelling>(i.parameter[kSpelling]) == SharedSpelling::generic;
  return resolve_shared(c, lane, address, generic ? SharedSpelling::generic : SharedSpelling::cluster);
}

// Operands: d, address, rank.
Outcome mapa(Context& c, const Instruction& i) {
  const bool generic = static_cast<SharedSpelling>(i.parameter[kSpelling]) == SharedSpelling::generic;
  uint64_t wide[kLanes] = {};
  uint32_t narrow[kLanes] = {};
  for (int lane : each(c.lanes)) {
    const uint64_t rank = defined_value(c, i[2], lane, "a block's rank");
    if (rank >= c.cluster->blocks.size())
      c.fault(FaultKind::usage, lane, "there is no block of rank " + std::to_string(rank) + " in the cluster");
    const uint64_t address = shared_of(c, i, lane, defined_value(c, i[1], lane, "an address"));
    wide[lane] = (generic ? kSharedWindow : 0) + (rank << kSharedRankShift | (address & kOffsetMask));
    narrow[lane] = static_cast<uint32_t>(wide[lane]);
  }
  if (i[0].bits == 64)
    c.write(i[0], wide);
  else
    c.write(i[0], narrow);
  return Outcome::next;
}

Outcome getctarank(Context& c, const Instruction& i) {
  uint32_t ranks[kLanes] = {};
  for (int lane : each(c.lanes))
    ranks[lane] =
        static_cast<uint32_t>(shared_of(c, i, lane, defined_value(c, i[1], lane, "an address")) >> kSharedRankShift);
  c.write(i[0], ranks);
  return Outcome::next;
}

void select_address(Form& form, Handler handler, int operands) {
  form.instruction.category = Class::integer;
  form.instruction.parameter[kSpelling] = static_cast<uint32_t>(take_shared(form));
  const ptx::Type type = form.take_type();
  if (type != ptx::Type::u32 && type != ptx::Type::u64) form.unknown();
  form.expect_operands(operands, operands);
  form.constant(1, type);
  if (operands > 2) form.constant(2, ptx::Type::u32);
  form.use(handler);
}

// --- barrier.cluster

// Which threads have arrived in the phase that has not ended, and which wait for which phase.
struct ClusterBarrier : Extension {
  std::map<const Warp*, Mask> arrived;
  std::map<const Warp*, std::array<uint64_t, kLanes>> waits_for;  // phase + 1 of the lane's last arrival; 0: none

  void threads_exited(Launch& launch, Block& block) override;
};

ClusterBarrier& state_of(Cluster& cluster) {
  if (!cluster.asynchronous) cluster.asynchronous = std::make_unique<ClusterBarrier>();
  return static_cast<ClusterBarrier&>(*cluster.asynchronous);
}

// Threads that have exited do not count.
void complete_if_all(Launch& launch, Cluster& cluster) {
  ClusterBarrier& state = state_of(cluster);
  uint32_t live = 0, here = 0;
  for (const auto& block : cluster.blocks)
    for (const auto& warp : block->warps) {
      live += static_cast<uint32_t>(__builtin_popcount(warp->live));
      here += static_cast<uint32_t>(__builtin_popcount(warp->live & state.arrived[warp.get()]));
    }
  if (live == 0 || here < live) return;
  state.arrived.clear();
  cluster.barrier_arrived = 0;
  ++cluster.barrier_phase;
  launch.wake({&cluster, 0});
}

void ClusterBarrier::threads_exited(Launch& launch, Block& block) {
  if (block.cluster->barrier_arrived) complete_if_all(launch, *block.cluster);
}

void observe(Context& c, SyncKind kind, Order order) {
  c.observe(SyncEvent{
      .kind = kind, .lanes = c.lanes, .object = c.cluster->barrier_phase, .scope = Scope::cluster, .order = order});
}

Outcome cluster_arrive(Context& c, const Instruction& i) {
  if (i.parameter[1] && !c.assemble("the other lanes at barrier.cluster")) return Outcome::repeat;
  ClusterBarrier& state = state_of(*c.cluster);
  auto& waits_for = state.waits_for[c.warp];
  for (int lane : each(c.lanes)) {
    if (waits_for[static_cast<size_t>(lane)])
      c.fault(FaultKind::usage, lane, "barrier.cluster.arrive a second time without barrier.cluster.wait");
    waits_for[static_cast<size_t>(lane)] = c.cluster->barrier_phase + 1;
  }
  observe(c, SyncKind::cluster_arrive, static_cast<Order>(i.parameter[0]));
  state.arrived[c.warp] |= c.lanes;
  c.cluster->barrier_arrived += static_cast<uint32_t>(__builtin_popcount(c.lanes));
  ++c.launch->counters.barriers;
  ++c.launch->progress;
  complete_if_all(*c.launch, *c.cluster);
  return Outcome::next;
}

Outcome cluster_wait(Context& c, const Instruction& i) {
  if (i.parameter[1] && !c.assemble("the other lanes at barrier.cluster")) return Outcome::repeat;
  auto& waits_for = state_of(*c.cluster).waits_for[c.warp];
  for (int lane : each(c.lanes)) {
    const uint64_t phase = waits_for[static_cast<size_t>(lane)];
    if (!phase) c.fault(FaultKind::usage, lane, "barrier.cluster.wait without barrier.cluster.arrive before it");
    if (phase <= c.cluster->barrier_phase) continue;
    c.sleep({c.cluster, 0}, "the cluster's barrier");
    return Outcome::repeat;
  }
  for (int lane : each(c.lanes)) waits_for[static_cast<size_t>(lane)] = 0;
  observe(c, SyncKind::cluster_leave, Order::acquire);
  return Outcome::next;
}

}  // namespace

void select_mapa(Form& form) { select_address(form, mapa, 3); }
void select_getctarank(Form& form) { select_address(form, getctarank, 2); }

void select_barrier_cluster(Form& form) {
  form.instruction.category = Class::barrier;
  form.instruction.results = 0;
  const bool arrives = form.take("arrive");
  if (!arrives) form.need("wait");
  const bool relaxed = form.take("relaxed");
  form.ignore({"release", "acquire"});
  form.instruction.parameter[0] = static_cast<uint32_t>(relaxed ? Order::relaxed : Order::release);
  form.instruction.parameter[1] = form.take("aligned");
  form.expect_operands(0, 0);
  form.use(arrives ? cluster_arrive : cluster_wait);
}

}  // namespace foretoken::machine
