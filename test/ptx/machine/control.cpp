// bra, brx, ret, exit, trap, and what only passes time.
#include "barrier.h"
#include "call.h"
#include "code.h"
#include "lanewise.h"
#include "scheduler.h"
#include "warp_sync.h"

namespace foretoken::machine {

namespace {

// Opens a divergence: the lanes that part now meet again at `pc`. Where the innermost open one ends there too (a loop
// whose lanes leave one by one), it is the same meeting.
void open_meeting(Context& c, uint32_t pc) {
  ++c.launch->counters.divergent_branches;
  if (pc == ptx::kNoMeetingPoint) return;
  auto& meetings = c.split->meetings;
  if (!meetings.empty() && meetings.back().pc == pc) return;
  meetings.push_back({pc, ++c.launch->divergences});
}

Outcome branch(Context& c, const Instruction& i) {
  Split& split = *c.split;
  const Mask stay = split.lanes & ~c.lanes;
  if (stay == 0) {
    split.pc = i.target;
    return Outcome::jump;
  }
  open_meeting(c, i.meets_at);
  if (c.launch->random.chance(2)) {
    c.divide(stay).pc = c.pc + 1;
    split.pc = i.target;
  } else {
    c.divide(c.lanes).pc = i.target;
    split.pc = c.pc + 1;
  }
  return Outcome::jump;
}

void select_bra(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.take("uni");
  form.expect_operands(1, 1);
  if (form.operand(0).kind != ptx::OperandKind::label) form.refuse("a label is expected");
  form.use(branch);
}

// --- brx.idx

using Targets = std::vector<uint32_t>;

Outcome branch_indexed(Context& c, const Instruction& i) {
  const Targets& targets = *static_cast<const Targets*>(i.plan);
  c.require_defined(i[0], "a branch");
  const uint32_t* index = c.source<uint32_t>(i[0]);
  Split& split = *c.split;
  if (const Mask stay = split.lanes & ~c.lanes) {
    open_meeting(c, i.meets_at);
    c.divide(stay).pc = c.pc + 1;
  }
  for (int lane : each(c.lanes))
    if (index[lane] >= targets.size()) c.fault(FaultKind::usage, lane, "brx.idx beyond its list of targets");
  const uint32_t target = targets[index[first_lane(c.lanes)]];
  Mask elsewhere = 0;
  for (int lane : each(c.lanes)) elsewhere |= static_cast<Mask>(targets[index[lane]] != target) << lane;
  if (elsewhere) {
    open_meeting(c, i.meets_at);
    c.divide(elsewhere);  // at the same instruction: it finds its own targets
  }
  split.pc = target;
  return Outcome::jump;
}

void select_brx(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.need("idx");
  form.take("uni");
  form.expect_operands(2, 2);
  expect_row(form, 0, 32);
  Targets targets;
  for (const ptx::Operand& label : form.operand(1).elements)
    targets.push_back(form.code.start_of(form.plan) + label.target);
  form.instruction.plan = form.keep(std::move(targets));
  form.use(branch_indexed);
}

// --- the end

Outcome exit_kernel(Context& c, const Instruction&) { return exit_lanes(c); }

void select_exit(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.expect_operands(0, 0);
  form.use(exit_kernel);
}

void select_ret(Form& form) {
  form.take("uni");
  if (form.plan.function->is_kernel) return select_exit(form);
  select_return(form);
}

Outcome trap(Context& c, const Instruction&) { c.fault(FaultKind::trap, first_lane(c.lanes), "trap"); }

void select_trap(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.expect_operands(0, 0);
  form.use(trap);
}

// --- no effect on the kernel's values

Outcome nothing(Context&, const Instruction&) { return Outcome::next; }

Outcome pause(Context&, const Instruction&) { return Outcome::yield; }

void select_nanosleep(Form& form) {
  form.instruction.results = 0;
  form.need("u32");
  form.constants(ptx::Type::u32);
  form.use(pause);
}

void select_pmevent(Form& form) {
  form.instruction.results = 0;
  form.take("mask");
  form.use(nothing);
}

Outcome membar(Context& c, const Instruction& i) {
  SyncEvent event;
  event.kind = SyncKind::fence;
  event.lanes = c.lanes;
  event.scope = static_cast<Scope>(i.parameter[0]);
  event.order = Order::sequential;
  c.observe(event);
  return Outcome::next;
}

void select_membar(Form& form) {
  form.instruction.category = Class::barrier;
  form.instruction.results = 0;
  constexpr Scope kScopes[] = {Scope::block, Scope::device, Scope::system};
  const int scope = form.take_one({"cta", "gl", "sys"});
  if (scope < 0) form.unknown();
  form.instruction.parameter[0] = static_cast<uint32_t>(kScopes[scope]);
  form.use(membar);
}

void select_barrier(Form& form) {
  if (form.take("cluster")) return select_barrier_cluster(form);
  select_bar(form);
}

void select_bar_or_warp(Form& form) {
  if (form.take("warp")) return select_warp_barrier(form);
  select_bar(form);
}

constexpr Entry kEntries[] = {
    {"bra", select_bra},         {"brx", select_brx},
    {"call", select_call},       {"ret", select_ret},
    {"exit", select_exit},       {"trap", select_trap},
    {"bar", select_bar_or_warp}, {"barrier", select_barrier},
    {"membar", select_membar},   {"nanosleep", select_nanosleep},
    {"pmevent", select_pmevent},
};

}  // namespace

std::span<const Entry> control_table() { return kEntries; }

}  // namespace foretoken::machine
