// mbarrier.*: the instructions. What they do to the 64 bits is in mbarrier.h.
#include "mbarrier_instructions.h"

#include "mbarrier_memory.h"
#include "shared_address.h"
#include "warp_state.h"

namespace foretoken::machine {
namespace {

enum class Arrive : uint8_t { plain, drop };

// Flat numbers of the operands; -1: not there.
struct MBarrierPlan {
  SharedSpelling spelling = SharedSpelling::generic;
  Scope scope = Scope::block;
  Order order = Order::release;
  Arrive arrive = Arrive::plain;
  bool parity = false;
  int state = -1, address = 0, value = -1, count = -1;
};

const MBarrierPlan& plan_of(const Instruction& i) { return *static_cast<const MBarrierPlan*>(i.plan); }

// One event for the lanes of each mbarrier.
void observe(Context& c, SyncKind kind, Mask lanes, const uint64_t* addresses, const MBarrierPlan& plan) {
  if (!c.launch->observer) return;
  while (lanes) {
    const uint64_t address = addresses[first_lane(lanes)];
    Mask here = 0;
    for (int lane : each(lanes)) here |= static_cast<Mask>(addresses[lane] == address) << lane;
    c.observe(SyncEvent{.kind = kind, .lanes = here, .object = address, .scope = plan.scope, .order = plan.order});
    lanes &= ~here;
  }
}

Outcome init(Context& c, const Instruction& i) {
  const MBarrierPlan& plan = plan_of(i);
  uint64_t addresses[kLanes];
  shared_addresses(c, i[plan.address], plan.spelling, addresses);
  for (int lane : each(c.lanes)) {
    const auto count = static_cast<uint32_t>(defined_value(c, i[plan.value], lane, "an mbarrier's count"));
    as_lane(c, lane, [&] {
      c.observe(MemoryEvent{
          .space = Space::shared, .kind = AccessKind::write, .lanes = c.lanes, .addresses = addresses, .bytes = 8});
    });
    initialize_mbarrier(c, lane, c.shared_at(lane, addresses[lane]), addresses[lane], count);
  }
  return Outcome::next;
}

Outcome invalidate(Context& c, const Instruction& i) {
  const MBarrierPlan& plan = plan_of(i);
  uint64_t addresses[kLanes];
  shared_addresses(c, i[plan.address], plan.spelling, addresses);
  for (int lane : each(c.lanes)) invalidate_mbarrier(c, lane, c.shared_at(lane, addresses[lane]), addresses[lane]);
  return Outcome::next;
}

// mbarrier.arrive and arrive_drop, with .expect_tx or not. Operands: state or _, [address]{, bytes or count}.
Outcome arrive(Context& c, const Instruction& i) {
  const MBarrierPlan& plan = plan_of(i);
  uint64_t addresses[kLanes], states[kLanes] = {};
  shared_addresses(c, i[plan.address], plan.spelling, addresses);
  observe(c, SyncKind::mbarrier_arrive, c.lanes, addresses, plan);
  for (int lane : each(c.lanes)) {
    Block& block = c.shared_at(lane, addresses[lane]);
    const bool expects = plan.value >= 0;
    const uint64_t bytes = expects ? defined_value(c, i[plan.value], lane, "the bytes that an mbarrier expects") : 0;
    const auto count =
        plan.count >= 0 ? static_cast<uint32_t>(defined_value(c, i[plan.count], lane, "an mbarrier's count")) : 1;
    update_mbarrier(c, lane, block, addresses[lane], [&](MBarrier& barrier) {
      states[lane] = barrier.encode();
      if (expects) {
        // With the arrival still pending this cannot end the phase.
        const auto expected = barrier.expect_transactions(static_cast<int64_t>(bytes));
        if (expected.error != MBarrier::Error::none) return expected;
      }
      return plan.arrive == Arrive::drop ? barrier.arrive_drop(count) : barrier.arrive(count);
    });
  }
  if (plan.state >= 0) c.write(i[plan.state], states);
  return Outcome::next;
}

// mbarrier.expect_tx and complete_tx: [address], bytes.
template <int kSign>
Outcome change_transactions(Context& c, const Instruction& i) {
  const MBarrierPlan& plan = plan_of(i);
  uint64_t addresses[kLanes];
  shared_addresses(c, i[plan.address], plan.spelling, addresses);
  for (int lane : each(c.lanes)) {
    const auto bytes = static_cast<int64_t>(defined_value(c, i[plan.value], lane, "an mbarrier's bytes"));
    update_mbarrier(c, lane, c.shared_at(lane, addresses[lane]), addresses[lane],
                    [&](MBarrier& barrier) { return barrier.expect_transactions(kSign * bytes); });
  }
  return Outcome::next;
}

// Lanes whose phase has ended. `waiting`: one of those whose phase has not.
Mask ended_lanes(Context& c, const Instruction& i, const uint64_t* addresses, int& waiting) {
  const MBarrierPlan& plan = plan_of(i);
  Mask ended = 0;
  for (int lane : each(c.lanes)) {
    const MBarrier barrier = read_mbarrier(c, lane, *c.block, addresses[lane]);
    const uint64_t value = defined_value(c, i[plan.value], lane, "which phase of an mbarrier is waited for");
    if (plan.parity ? barrier.has_ended_parity(static_cast<uint32_t>(value)) : barrier.has_ended(value))
      ended |= 1u << lane;
    else
      waiting = lane;
  }
  return ended;
}

Outcome finish_wait(Context& c, const Instruction& i, const uint64_t* addresses, Mask ended) {
  observe(c, SyncKind::mbarrier_leave, ended, addresses, plan_of(i));
  c.write_predicate(i[0], ended);
  return ended == c.lanes ? Outcome::next : Outcome::yield;
}

Outcome test_wait(Context& c, const Instruction& i) {
  uint64_t addresses[kLanes];
  int waiting = 0;
  shared_addresses(c, i[plan_of(i).address], plan_of(i).spelling, addresses);
  return finish_wait(c, i, addresses, ended_lanes(c, i, addresses, waiting));
}

// A loop around try_wait sleeps here from the third time on, so that waiting costs nothing and a phase that never ends
// is a deadlock with its line. Code that asks once and goes on does not.
bool should_sleep(Context& c, uint64_t address) {
  constexpr uint32_t kPatience = 3;
  Poll& poll = warp_state(*c.warp).poll;
  if (poll.pc != c.pc || poll.address != address) poll = {c.pc, address, 0};
  return ++poll.failures >= kPatience;
}

Outcome try_wait(Context& c, const Instruction& i) {
  constexpr uint32_t kFailsOneIn = 16;
  uint64_t addresses[kLanes];
  int waiting = 0;
  shared_addresses(c, i[plan_of(i).address], plan_of(i).spelling, addresses);
  Mask ended = ended_lanes(c, i, addresses, waiting);
  Poll& poll = warp_state(*c.warp).poll;
  if (ended == c.lanes) {
    // It may fail for no reason; not twice in a row, lest a seed make a loop of it.
    if (poll.failures == 0 && c.launch->random.chance(kFailsOneIn)) {
      poll = {c.pc, addresses[first_lane(c.lanes)], 1};
      ended = 0;
    } else {
      poll = {};
    }
  } else if (ended == 0 && should_sleep(c, addresses[waiting])) {
    c.sleep(mbarrier_key(*c.block, addresses[waiting]), "a phase of an mbarrier");
    return Outcome::repeat;
  }
  return finish_wait(c, i, addresses, ended);
}

// Operands: count, state.
Outcome pending_count(Context& c, const Instruction& i) {
  uint32_t counts[kLanes] = {};
  for (int lane : each(c.lanes)) {
    const auto barrier = MBarrier::decode(defined_value(c, i[1], lane, "an mbarrier's state"));
    if (!barrier) c.fault(FaultKind::usage, lane, "the operand is not a state that an mbarrier's arrival returned");
    counts[lane] = barrier->pending;
  }
  c.write(i[0], counts);
  return Outcome::next;
}

void take_scope(Form& form, MBarrierPlan& plan) {
  if (form.take("relaxed")) plan.order = Order::relaxed;
  form.ignore({"release", "acquire"});
  if (form.take("cluster")) plan.scope = Scope::cluster;
  form.take("cta");
}

void select_arrive(Form& form, MBarrierPlan& plan) {
  const bool expects = form.take("expect_tx");
  take_scope(form, plan);
  plan.spelling = take_shared(form);
  form.need("b64");
  form.expect_operands(1, 3);
  int next = 0;
  if (form.operand(0).kind != ptx::OperandKind::address) {
    if (form.operand(0).kind != ptx::OperandKind::sink) plan.state = form.flat(0);
    next = 1;
  }
  plan.address = form.flat(next++);
  if (expects) {
    form.constant(next, ptx::Type::u32);
    plan.value = form.flat(next++);
  } else if (next < form.operand_count()) {
    form.constant(next, ptx::Type::u32);
    plan.count = form.flat(next++);
  }
  if (next != form.operand_count()) form.refuse("operands not known");
  form.instruction.results = plan.state >= 0 ? 1 : 0;
  form.use(arrive);
}

void select_wait(Form& form, MBarrierPlan& plan, Handler handler) {
  plan.order = Order::acquire;
  plan.parity = form.take("parity");
  take_scope(form, plan);
  plan.spelling = take_shared(form);
  if (plan.spelling == SharedSpelling::cluster) form.refuse("only the block's own mbarriers can be waited for");
  form.need("b64");
  form.expect_operands(3, 4);
  form.constant(2, plan.parity ? ptx::Type::u32 : ptx::Type::b64);
  plan.address = form.flat(1);
  plan.value = form.flat(2);
  form.use(handler);
}

// [address]{, value}
void select_on_address(Form& form, MBarrierPlan& plan, Handler handler, int operands) {
  take_scope(form, plan);
  plan.spelling = take_shared(form);
  form.need("b64");
  form.expect_operands(operands, operands);
  plan.address = form.flat(0);
  if (operands > 1) {
    form.constant(1, ptx::Type::u32);
    plan.value = form.flat(1);
  }
  form.instruction.results = 0;
  form.use(handler);
}

}  // namespace

void select_mbarrier(Form& form) {
  form.instruction.category = Class::barrier;
  MBarrierPlan plan;
  const bool drops = form.take("arrive_drop");
  for (int k = 0; k < form.operand_count(); ++k)
    if (form.operand(k).kind == ptx::OperandKind::address) form.constant(k, ptx::Type::b64);
  if (drops || form.take("arrive")) {
    if (drops) plan.arrive = Arrive::drop;
    if (form.take("noComplete")) form.refuse("not known");
    select_arrive(form, plan);
  } else if (form.take("test_wait")) {
    select_wait(form, plan, test_wait);
  } else if (form.take("try_wait")) {
    select_wait(form, plan, try_wait);
  } else if (form.take("init")) {
    select_on_address(form, plan, init, 2);
  } else if (form.take("inval")) {
    select_on_address(form, plan, invalidate, 1);
  } else if (form.take("expect_tx")) {
    select_on_address(form, plan, change_transactions<1>, 2);
  } else if (form.take("complete_tx")) {
    select_on_address(form, plan, change_transactions<-1>, 2);
  } else if (form.take("pending_count")) {
    form.need("b64");
    form.expect_operands(2, 2);
    form.use(pending_count);
  } else {
    form.unknown();
  }
  form.instruction.plan = form.keep(plan);
}

}  // namespace foretoken::machine
