#include "rendezvous.h"

#include <algorithm>

#include "scheduler.h"

namespace foretoken::machine {

namespace {

struct Rendezvousing : Extension {
  std::vector<std::unique_ptr<Rendezvous>> open;
  uint64_t count = 0;
};

Rendezvousing& rendezvous_of(Warp& warp) {
  if (!warp.rendezvous) warp.rendezvous = std::make_unique<Rendezvousing>();
  return static_cast<Rendezvousing&>(*warp.rendezvous);
}

constexpr const char* kNames[] = {"a shuffle", "a vote", "a match", "a reduction", "an election", "bar.warp.sync"};

// Exited lanes count as arrived.
void check_complete(Launch& launch, Warp& warp, Rendezvous& r) {
  if (r.complete || (r.members & warp.live & ~r.arrived)) return;
  r.complete = true;
  if (r.kind == WarpSync::barrier) {
    Context c;
    c.launch = &launch;
    c.cluster = warp.block->cluster;
    c.block = warp.block;
    c.warp = &warp;
    c.lanes = r.members;
    observe_sync(c);
  }
  launch.wake({&r, r.number}, *warp.block);
}

}  // namespace

void observe_sync(Context& c) {
  if (!c.launch->observer) [[likely]]
    return;
  SyncEvent event;
  event.kind = SyncKind::warp;
  event.lanes = c.lanes;
  event.object = reinterpret_cast<uint64_t>(c.warp);
  c.observe(event);
}

void read_members(Context& c, const Operand& o, Mask* members) {
  c.require_defined(o, "a membership mask");
  const uint32_t* row = c.source<uint32_t>(o);
  for (int lane : each(c.lanes)) {
    members[lane] = row[lane];
    if (!(row[lane] >> lane & 1)) c.fault(FaultKind::usage, lane, "a lane is not in its own membership mask");
  }
}

Mask common_members(const Context& c, const Operand& o) {
  if (c.undefined(o) & c.lanes) return 0;
  const uint32_t* row = c.source<uint32_t>(o);
  const Mask value = row[first_lane(c.lanes)];
  Mask difference = c.lanes & ~value;
  for (int lane = 0; lane < kLanes; ++lane) difference |= c.lanes >> lane & 1 ? row[lane] ^ value : 0;
  return difference ? 0 : value;
}

Mask lanes_with(Mask lanes, const Mask* members, Mask value) {
  Mask result = 0;
  for (int lane : each(lanes)) result |= static_cast<Mask>(members[lane] == value) << lane;
  return result;
}

Rendezvous& awaited(Context& c) {
  auto& open = rendezvous_of(*c.warp).open;
  c.split->arrived = false;
  return **std::find_if(open.begin(), open.end(), [&](const auto& r) { return r->number == c.split->ticket; });
}

void leave(Context& c, Rendezvous& r) {
  r.left |= c.lanes;
  if (r.left != r.arrived) return;
  auto& open = rendezvous_of(*c.warp).open;
  open.erase(std::find_if(open.begin(), open.end(), [&](const auto& other) { return other.get() == &r; }));
}

Rendezvous& join(Warp& warp, WarpSync kind, Mask members) {
  Rendezvousing& all = rendezvous_of(warp);
  for (const auto& r : all.open)
    if (!r->complete && r->kind == kind && r->members == members) return *r;
  Rendezvous& r = *all.open.emplace_back(std::make_unique<Rendezvous>());
  r.kind = kind;
  r.members = members;
  r.number = ++all.count;
  return r;
}

void arrive(Context& c, Rendezvous& r, Mask lanes) {
  r.arrived |= lanes;
  c.split->arrived = true;
  c.split->ticket = r.number;
  c.sleep({&r, r.number}, kNames[static_cast<int>(r.kind)]);
  ++c.launch->progress;
  check_complete(*c.launch, *c.warp, r);
}

void lanes_exited(Launch& launch, Warp& warp) {
  if (!warp.rendezvous) return;
  for (const auto& r : rendezvous_of(warp).open) check_complete(launch, warp, *r);
}

}  // namespace foretoken::machine
