#include "barrier.h"

#include "lanewise.h"

namespace foretoken::machine {

namespace {

// parameter[0]: flat number of the barrier's number; [1]: of the thread count, or kNone; [2]: of the predicate.
constexpr uint32_t kNone = UINT32_MAX;

uint32_t uniform_value(Context& c, const Operand& o, const char* what) {
  c.require_defined(o, what);
  const uint32_t* row = c.source<uint32_t>(o);
  const uint32_t value = row[first_lane(c.lanes)];
  for (int lane : each(c.lanes))
    if (row[lane] != value) c.fault(FaultKind::usage, lane, std::string(what) + " differs between lanes");
  return value;
}

bool is_complete(const Block& block, const NamedBarrier& barrier) {
  return barrier.arrived != 0 && barrier.arrived >= (barrier.whole_block ? block.live_threads : barrier.expected);
}

void complete(Launch& launch, Block& block, NamedBarrier& barrier) {
  const uint64_t phase = barrier.phase++;
  barrier.result = barrier.red_count;
  barrier.result_threads = barrier.arrived;
  barrier.result_undefined = barrier.red_undefined;
  barrier.arrived = barrier.expected = barrier.red_count = 0;
  barrier.red_undefined = false;
  launch.wake({&barrier, phase}, block);
}

// The lanes that execute arrive. Lanes whose guard is false go on by themselves.
NamedBarrier& arrive_at(Context& c, const Instruction& i) {
  const uint32_t number = uniform_value(c, i[static_cast<int>(i.parameter[0])], "a barrier's number");
  const int lane = first_lane(c.lanes);
  if (number >= kBarriers) c.fault(FaultKind::usage, lane, "there is no barrier " + std::to_string(number));
  Block& block = *c.block;
  NamedBarrier& barrier = block.barriers[number];
  const bool whole = i.parameter[1] == kNone;
  const uint32_t expected =
      whole ? 0 : uniform_value(c, i[static_cast<int>(i.parameter[1])], "a barrier's number of threads");
  if (!whole && (expected == 0 || expected % kLanes != 0))
    c.fault(FaultKind::usage, lane, "a barrier for " + std::to_string(expected) + " threads: not a multiple of 32");
  if (barrier.arrived != 0 && (barrier.whole_block != whole || barrier.expected != expected))
    c.fault(FaultKind::usage, lane, "barrier " + std::to_string(number) + " is in use with another number of threads");
  barrier.whole_block = whole;
  barrier.expected = expected;
  barrier.arrived += static_cast<uint32_t>(__builtin_popcount(c.lanes));
  if (!whole && barrier.arrived > expected)
    c.fault(FaultKind::usage, lane, "more threads at barrier " + std::to_string(number) + " than it is for");
  if (i.parameter[2] != kNone) {
    const Operand& predicate = i[static_cast<int>(i.parameter[2])];
    barrier.red_count += static_cast<uint32_t>(__builtin_popcount(c.predicate(predicate) & c.lanes));
    barrier.red_undefined |= (c.predicate_undefined(predicate) & c.lanes) != 0;
  }
  ++c.launch->counters.barriers;
  ++c.launch->progress;
  SyncEvent event;
  event.kind = SyncKind::barrier_arrive;
  event.lanes = c.lanes;
  event.object = reinterpret_cast<uint64_t>(&barrier);
  event.phase = barrier.phase;
  event.scope = Scope::block;
  c.observe(event);
  return barrier;
}

void leave(Context& c, const NamedBarrier& barrier, uint64_t phase) {
  SyncEvent event;
  event.kind = SyncKind::barrier_leave;
  event.lanes = c.lanes;
  event.object = reinterpret_cast<uint64_t>(&barrier);
  event.phase = phase;
  event.scope = Scope::block;
  c.observe(event);
}

void part_from_guarded(Context& c) {
  if (const Mask others = c.split->lanes & ~c.lanes) c.divide(others).pc = c.pc + 1;
}

NamedBarrier& barrier_of(Context& c, const Instruction& i) {
  return c.block->barriers[c.source<uint32_t>(i[static_cast<int>(i.parameter[0])])[first_lane(c.lanes)]];
}

// Arrives and sleeps until the phase is over. True: it is.
bool synchronise(Context& c, const Instruction& i) {
  Split& split = *c.split;
  if (split.arrived) {
    split.arrived = false;
    leave(c, barrier_of(c, i), split.wait.detail);
    return true;
  }
  part_from_guarded(c);
  NamedBarrier& barrier = arrive_at(c, i);
  if (is_complete(*c.block, barrier)) {
    complete(*c.launch, *c.block, barrier);
    leave(c, barrier, barrier.phase - 1);
    return true;
  }
  split.arrived = true;
  c.sleep({&barrier, barrier.phase}, "the barrier");
  return false;
}

Outcome bar_sync(Context& c, const Instruction& i) { return synchronise(c, i) ? Outcome::next : Outcome::repeat; }

Outcome bar_arrive(Context& c, const Instruction& i) {
  part_from_guarded(c);
  NamedBarrier& barrier = arrive_at(c, i);
  if (is_complete(*c.block, barrier)) complete(*c.launch, *c.block, barrier);
  return Outcome::next;
}

Outcome bar_red_popc(Context& c, const Instruction& i) {
  if (!synchronise(c, i)) return Outcome::repeat;
  const NamedBarrier& barrier = barrier_of(c, i);
  uint32_t count[kLanes];
  std::fill_n(count, kLanes, barrier.result);
  c.write(i[0], count);
  if (barrier.result_undefined) c.set_undefined(i[0], c.lanes);
  return Outcome::next;
}

template <bool All>
Outcome bar_red_logical(Context& c, const Instruction& i) {
  if (!synchronise(c, i)) return Outcome::repeat;
  const NamedBarrier& barrier = barrier_of(c, i);
  const bool result = All ? barrier.result == barrier.result_threads : barrier.result != 0;
  c.write_predicate(i[0], result ? kAllLanes : 0, barrier.result_undefined ? kAllLanes : 0);
  return Outcome::next;
}

void select_red(Form& form) {
  const int operation = form.take_one({"popc", "and", "or"});
  if (operation < 0) form.unknown();
  form.need(operation == 0 ? "u32" : "pred");
  form.expect_operands(3, 4);
  form.instruction.results = 1;
  form.instruction.parameter[0] = 1;
  form.instruction.parameter[1] = form.operand_count() == 4 ? 2 : kNone;
  form.instruction.parameter[2] = static_cast<uint32_t>(form.operand_count() - 1);
  form.use(operation == 0 ? bar_red_popc : operation == 1 ? bar_red_logical<true> : bar_red_logical<false>);
}

}  // namespace

void select_bar(Form& form) {
  form.instruction.category = Class::barrier;
  form.instruction.results = 0;
  form.ignore({"cta", "aligned"});
  form.constants(ptx::Type::b32);
  if (form.take("red")) return select_red(form);
  const bool is_sync = form.take("sync");
  if (!is_sync) form.need("arrive");
  form.expect_operands(is_sync ? 1 : 2, 2);
  form.instruction.parameter[1] = form.operand_count() == 2 ? 1 : kNone;
  form.instruction.parameter[2] = kNone;
  form.use(is_sync ? bar_sync : bar_arrive);
}

void complete_barriers_after_exit(Launch& launch, Block& block) {
  for (NamedBarrier& barrier : block.barriers)
    if (barrier.whole_block && is_complete(block, barrier)) complete(launch, block, barrier);
}

}  // namespace foretoken::machine
