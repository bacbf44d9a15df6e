// cp.async.bulk…: operands into areas, areas into operations (bulk_copy.h), and their groups.
#include "bulk_instructions.h"

#include "shared_address.h"
#include "tensor_map_access.h"
#include "warp_state.h"

namespace foretoken::machine {
namespace {

constexpr uint32_t kLinearAlignment = 16, kBoxAlignment = 128;  // bytes

// Flat numbers of operands; -1: not there.
struct BulkPlan {
  int rank = 0;  // of the tensor; 0: a linear copy
  SharedSpelling destination = SharedSpelling::cluster;
  BulkReduction reduction;
  int shared = -1, global = -1;  // for transfers between blocks, `global` is the source
  int bytes = -1, mbarrier = -1, mask = -1;
};

const BulkPlan& plan_of(const Instruction& i) { return *static_cast<const BulkPlan*>(i.plan); }

uint64_t address_of(Context& c, const Operand& operand, int lane) {
  uint64_t addresses[kLanes];
  c.addresses(operand, addresses);
  return addresses[lane];
}

TensorCoordinates coordinates_of(Context& c, const Instruction& i, int lane) {
  TensorCoordinates origin{};
  for (int k = 0; k < plan_of(i).rank; ++k)
    origin[static_cast<size_t>(k)] =
        static_cast<int32_t>(defined_value(c, i[plan_of(i).global + 1 + k], lane, "a coordinate of a tensor copy"));
  return origin;
}

TensorMap map_of(Context& c, const Instruction& i, int lane) {
  return read_tensor_map(c, lane, address_of(c, i[plan_of(i).global], lane));
}

uint32_t linear_bytes(Context& c, const Instruction& i, int lane) {
  const auto bytes = static_cast<uint32_t>(defined_value(c, i[plan_of(i).bytes], lane, "the size of a bulk copy"));
  if (bytes % kLinearAlignment)
    c.fault(FaultKind::usage, lane, "the size of a bulk copy must be a multiple of 16 bytes");
  return bytes;
}

// The area that a lane copies, its shared side at `shared`; checked in global memory.
BulkArea area_of(Context& c, const Instruction& i, int lane, uint64_t shared, const char* what) {
  BulkArea area;
  if (plan_of(i).rank) {
    area = tensor_area(c, lane, map_of(c, i, lane), plan_of(i).rank, coordinates_of(c, i, lane), shared);
  } else {
    const uint64_t global = address_of(c, i[plan_of(i).global], lane);
    if (global % kLinearAlignment)
      c.fault(FaultKind::address, lane, std::string(what) + " must be aligned to 16 bytes");
    const uint32_t bytes = linear_bytes(c, i, lane);
    area = {shared, bytes, 0, {{0, global, bytes, true}}};
  }
  check_global(c, lane, area, what);
  return area;
}

uint32_t shared_alignment(const BulkPlan& plan) { return plan.rank ? kBoxAlignment : kLinearAlignment; }

// The blocks that a load goes to; its mbarrier lies in the same block as its destination.
std::vector<Block*> receivers(Context& c, const Instruction& i, int lane, uint64_t shared, uint64_t mbarrier) {
  const BulkPlan& plan = plan_of(i);
  if (shared >> kSharedRankShift != mbarrier >> kSharedRankShift)
    c.fault(FaultKind::usage, lane, "the mbarrier must lie in the same block as the destination");
  if (plan.mask < 0) return {&c.shared_at(lane, shared)};
  std::vector<Block*> blocks;
  const uint64_t mask = defined_value(c, i[plan.mask], lane, "the blocks of a multicast") & 0xffff;
  for (uint64_t rank = 0; mask >> rank; ++rank)
    if (mask >> rank & 1) blocks.push_back(&c.shared_at(lane, rank << kSharedRankShift));
  return blocks;
}

void load_lane(Context& c, const Instruction& i, int lane) {
  const BulkPlan& plan = plan_of(i);
  const uint64_t shared = resolve_shared(c, lane, address_of(c, i[plan.shared], lane), plan.destination);
  const uint64_t mbarrier = resolve_shared(c, lane, address_of(c, i[plan.mbarrier], lane), plan.destination);
  BulkArea area = area_of(c, i, lane, shared, "the source of a bulk load");
  const auto blocks = receivers(c, i, lane, shared, mbarrier);
  if (area.bytes == 0 || blocks.empty()) return;
  for (Block* block : blocks) {
    BulkArea there = {(shared & ((1u << kSharedRankShift) - 1)) | block->shared->base(), area.bytes, 0, {}};
    check_shared(c, lane, *block, there, shared_alignment(plan), "the destination of a bulk load");
  }
  submit(c, make_bulk_load(c, lane, std::move(area), blocks, mbarrier), mbarrier);
}

void store_lane(Context& c, const Instruction& i, int lane) {
  const BulkPlan& plan = plan_of(i);
  const uint64_t shared = resolve_shared(c, lane, address_of(c, i[plan.shared], lane), SharedSpelling::block);
  BulkArea area = area_of(c, i, lane, shared, "the destination of a bulk store");
  check_shared(c, lane, *c.block, area, shared_alignment(plan), "the source of a bulk store");
  BulkReduction reduction = plan.reduction;
  if (plan.rank && reduction.operation != Reduction::none) reduction.element = map_of(c, i, lane).element;
  if (reduction.operation != Reduction::none && !is_reduction(reduction))
    c.fault(FaultKind::usage, lane, "there is no such reduction of the tensor's elements");
  auto read = std::make_shared<BulkRead>(c, *c.block, area);
  read->operation = c.launch->last_operation + 1;
  submit(c, make_bulk_store(c, std::move(area), reduction, read));
  warp_state(*c.warp).bulk.add(c.lanes, std::move(read));
}

// CUTLASS stores boxes with a whole warp. Lanes that store the same bytes to the same place are one copy; what the
// hardware makes of a reduction that all of them ask for is not documented.
Outcome store(Context& c, const Instruction& i) {
  for (Mask rest = c.lanes; rest;) {
    const int lane = first_lane(rest);
    const Mask same = lanes_like(c, i, lane) & rest;
    if (plan_of(i).reduction.operation != Reduction::none && same != 1u << lane)
      c.fault(FaultKind::unsupported, lane, "a bulk reduction by several lanes with the same operands is not known");
    as_lanes(c, same, [&] { store_lane(c, i, lane); });
    rest &= ~same;
  }
  return Outcome::next;
}

// Shared memory of this block to that of another.
void transfer_lane(Context& c, const Instruction& i, int lane) {
  const BulkPlan& plan = plan_of(i);
  const uint64_t to = resolve_shared(c, lane, address_of(c, i[plan.shared], lane), SharedSpelling::cluster);
  const uint64_t from = resolve_shared(c, lane, address_of(c, i[plan.global], lane), SharedSpelling::block);
  const uint64_t mbarrier = resolve_shared(c, lane, address_of(c, i[plan.mbarrier], lane), SharedSpelling::cluster);
  const BulkArea source{from, linear_bytes(c, i, lane), 0, {}}, target{to, source.bytes, 0, {}};
  if (to >> kSharedRankShift != mbarrier >> kSharedRankShift)
    c.fault(FaultKind::usage, lane, "the mbarrier must lie in the same block as the destination");
  check_shared(c, lane, *c.block, source, kLinearAlignment, "the source of a bulk copy");
  check_shared(c, lane, c.shared_at(lane, to), target, kLinearAlignment, "the destination of a bulk copy");
  auto read = std::make_shared<BulkRead>(c, *c.block, source);
  read->operation = c.launch->last_operation + 1;
  submit(c, make_bulk_transfer(c, lane, to, mbarrier, plan.reduction, read), mbarrier);
}

void prefetch_lane(Context& c, const Instruction& i, int lane) { area_of(c, i, lane, 0, "a bulk prefetch"); }

template <void (*kLane)(Context&, const Instruction&, int)>
Outcome each_lane(Context& c, const Instruction& i) {
  for (int lane : each(c.lanes)) as_lane(c, lane, [&] { kLane(c, i, lane); });
  return Outcome::next;
}

Outcome commit(Context& c, const Instruction&) {
  warp_state(*c.warp).bulk.commit(c.lanes);
  return Outcome::next;
}

// parameter[0]: groups that may be pending; [1]: only the reading half is waited for.
Outcome wait(Context& c, const Instruction& i) {
  const bool only_read = i.parameter[1];
  warp_state(*c.warp).bulk.wait(
      c.lanes, i.parameter[0], only_read, [&](Mask lanes, const std::shared_ptr<BulkRead>& read) {
        read->finish();
        if (!only_read) return join(c, lanes, read->operation);
        c.observe(SyncEvent{.kind = SyncKind::agent_join_reads, .lanes = lanes, .object = read->operation});
      });
  return Outcome::next;
}

enum class Direction { load, store, transfer };

// The order of the state spaces says which way: destination, then source.
Direction take_direction(Form& form, BulkPlan& plan) {
  std::vector<std::string_view> spaces;
  for (std::string_view modifier : form.statement.modifiers)
    if (modifier == "global" || modifier == "shared::cta" || modifier == "shared::cluster") spaces.push_back(modifier);
  if (spaces.size() != 2) form.unknown();
  for (std::string_view space : spaces) form.need(space);
  if (spaces[0] == "global" && spaces[1] == "shared::cta") return Direction::store;
  plan.destination = spaces[0] == "shared::cta" ? SharedSpelling::block : SharedSpelling::cluster;
  if (spaces[1] == "global") return Direction::load;
  if (spaces[0] != "shared::cluster" || spaces[1] != "shared::cta") form.unknown();
  return Direction::transfer;
}

TensorElement take_element(Form& form) {
  switch (form.take_type()) {
    case ptx::Type::f16: return TensorElement::f16;
    case ptx::Type::bf16: return TensorElement::bf16;
    case ptx::Type::f32: return TensorElement::f32;
    case ptx::Type::f64: return TensorElement::f64;
    case ptx::Type::b32:
    case ptx::Type::u32: return TensorElement::u32;
    case ptx::Type::s32: return TensorElement::s32;
    case ptx::Type::b64:
    case ptx::Type::u64: return TensorElement::u64;
    case ptx::Type::s64: return TensorElement::s64;
    default: form.unknown();
  }
}

void take_reduction(Form& form, BulkPlan& plan) {
  const int operation = form.take_one({"add", "min", "max", "inc", "dec", "and", "or", "xor"});
  if (operation < 0) form.unknown();
  plan.reduction.operation = static_cast<Reduction>(operation + 1);
  if (plan.rank) return;  // the map says which elements
  form.take("noftz");
  plan.reduction.element = take_element(form);
  if (!is_reduction(plan.reduction)) form.refuse("no such reduction");
}

void take_rank(Form& form, BulkPlan& plan) {
  if (!form.take("tensor")) return;
  plan.rank = form.take_one({"1d", "2d", "3d", "4d", "5d"}) + 1;
  if (plan.rank == 0) form.unknown();
  form.take("tile");
}

// Fixes the operand that holds the tensor map and coordinates, or the linear address.
int take_global(Form& form, BulkPlan& plan, int operand) {
  if (plan.rank) {
    form.constant(operand, ptx::Type::s32);
    const auto& elements = form.operand(operand).elements;
    if (elements.size() != 2 || static_cast<int>(elements[1].elements.size()) != plan.rank)
      form.refuse("coordinates do not fit the rank");
  }
  return form.flat(operand);
}

// Operands in the order of the instruction: each take_… returns the number of the next.
void take_operands(Form& form, BulkPlan& plan, Direction direction, bool multicast, bool policy) {
  const bool store = direction == Direction::store;
  int next = 0;
  if (!store) plan.shared = form.flat(next++);
  plan.global = take_global(form, plan, next++);
  if (store) plan.shared = form.flat(next++);
  if (plan.rank == 0) {
    form.constant(next, ptx::Type::u32);
    plan.bytes = form.flat(next++);
  }
  if (!store) plan.mbarrier = form.flat(next++);
  if (multicast) {
    form.constant(next, ptx::Type::u16);
    plan.mask = form.flat(next++);
  }
  form.expect_operands(next + policy, next + policy);
}

void select_prefetch(Form& form, BulkPlan& plan) {
  take_rank(form, plan);
  form.need("L2");
  form.need("global");
  const bool policy = form.take("L2::cache_hint");
  plan.global = take_global(form, plan, 0);
  int next = 1;
  if (plan.rank == 0) {
    form.constant(next, ptx::Type::u32);
    plan.bytes = form.flat(next++);
  }
  form.expect_operands(next + policy, next + policy);
  form.use(each_lane<prefetch_lane>);
}

void select_copy(Form& form, BulkPlan& plan, bool reduces) {
  take_rank(form, plan);
  const Direction direction = take_direction(form, plan);
  const bool multicast = form.take("multicast::cluster"), policy = form.take("L2::cache_hint");
  if (reduces) take_reduction(form, plan);
  form.need(direction == Direction::store ? "bulk_group" : "mbarrier::complete_tx::bytes");
  if ((reduces && direction == Direction::load) || (multicast && direction != Direction::load)) form.unknown();
  if (plan.rank && direction == Direction::transfer) form.unknown();
  take_operands(form, plan, direction, multicast, policy);
  form.use(direction == Direction::load    ? each_lane<load_lane>
           : direction == Direction::store ? store
                                           : each_lane<transfer_lane>);
}

}  // namespace

void select_bulk(Form& form, bool reduces) {
  form.instruction.category = Class::asynchronous;
  form.instruction.results = 0;
  if (form.take("commit_group")) return form.use(commit);
  if (form.take("wait_group")) {
    form.instruction.parameter[1] = form.take("read");
    form.expect_operands(1, 1);
    if (form.operand(0).kind != ptx::OperandKind::integer) form.refuse("a number is wanted");
    form.instruction.parameter[0] = static_cast<uint32_t>(form.operand(0).bits);
    return form.use(wait);
  }
  BulkPlan plan;
  if (form.take("prefetch"))
    select_prefetch(form, plan);
  else
    select_copy(form, plan, reduces);
  form.instruction.plan = form.keep(plan);
}

}  // namespace foretoken::machine
