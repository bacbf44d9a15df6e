// fence in all its forms, and instructions that only tell the hardware something.
#include "fence.h"

#include "../machine.h"

namespace foretoken::machine {
namespace {

enum Parameter { kKind, kScope, kOrder };

Outcome fence(Context& c, const Instruction& i) {
  c.observe(SyncEvent{.kind = static_cast<SyncKind>(i.parameter[kKind]),
                      .lanes = c.lanes,
                      .scope = static_cast<Scope>(i.parameter[kScope]),
                      .order = static_cast<Order>(i.parameter[kOrder])});
  return Outcome::next;
}

Outcome nothing(Context&, const Instruction&) { return Outcome::next; }

Outcome aligned_nothing(Context& c, const Instruction&) {
  return c.assemble("the other lanes of the warp") ? Outcome::next : Outcome::repeat;
}

void use_fence(Form& form, SyncKind kind, Scope scope, Order order) {
  form.instruction.parameter[kKind] = static_cast<uint32_t>(kind);
  form.instruction.parameter[kScope] = static_cast<uint32_t>(scope);
  form.instruction.parameter[kOrder] = static_cast<uint32_t>(order);
  form.use(fence);
}

}  // namespace

void select_fence(Form& form) {
  form.instruction.category = Class::barrier;
  form.instruction.results = 0;
  if (form.take("proxy")) {
    // tensormap and alias proxies are not known.
    if (form.take_one({"async", "async::generic"}) < 0) form.refuse("only fence.proxy.async is known");
    form.ignore({"global", "shared::cta", "shared::cluster"});
    return use_fence(form, SyncKind::proxy_fence, Scope::cluster, Order::acquire_release);
  }
  if (form.take("mbarrier_init")) {
    form.need("release");
    form.need("cluster");
    return use_fence(form, SyncKind::fence, Scope::cluster, Order::release);
  }
  constexpr Order kOrders[] = {Order::sequential, Order::acquire_release, Order::acquire, Order::release};
  constexpr Scope kScopes[] = {Scope::block, Scope::cluster, Scope::device, Scope::system};
  const int order = form.take_one({"sc", "acq_rel", "acquire", "release"});
  const int scope = form.take_one({"cta", "cluster", "gpu", "sys"});
  if (scope < 0) form.unknown();
  use_fence(form, SyncKind::fence, kScopes[scope], kOrders[order < 0 ? 1 : order]);
}

// Launches run one after the other, so there is nothing to wait for.
void select_griddepcontrol(Form& form) {
  form.instruction.results = 0;
  if (form.take_one({"launch_dependents", "wait"}) < 0) form.unknown();
  form.use(nothing);
}

void select_setmaxnreg(Form& form) {
  form.instruction.results = 0;
  if (form.take_one({"inc", "dec"}) < 0) form.unknown();
  form.need("sync");
  form.need("aligned");
  form.need("u32");
  form.expect_operands(1, 1);
  const ptx::Operand& count = form.operand(0);
  if (count.kind != ptx::OperandKind::integer || count.bits < 24 || count.bits > 256 || count.bits % 8)
    form.refuse("the count must be a multiple of 8 from 24 to 256");
  form.use(aligned_nothing);
}

}  // namespace foretoken::machine
