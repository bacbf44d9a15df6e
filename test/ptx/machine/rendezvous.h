// Lanes that come together at a warp-level sync, whether they stand at the same instruction or not.
//
// A sync is of one kind and one membership mask. Where all of the mask's live lanes execute it at once it is over at
// once. Otherwise each split brings what its lanes have, sleeps until the last has come, and takes its result.
#pragma once
#include <memory>
#include <vector>

#include "machine.h"

namespace foretoken::machine {

enum class WarpSync : uint8_t { shuffle, vote, match, redux, elect, barrier };

// What the lanes bring to a sync.
struct Brought {
  uint64_t values[kLanes] = {};
  uint64_t undefined[kLanes];  // bit by bit; only where any_undefined
  Mask any_undefined = 0;
};

// A sync of the lanes of one membership mask that not all have reached yet, or not all have left.
struct Rendezvous {
  WarpSync kind = WarpSync::shuffle;
  Mask members = 0;
  Mask arrived = 0;
  Mask left = 0;  // have gone on with the result
  bool complete = false;
  uint64_t number = 0;
  Brought brought;
};

// The membership mask of each lane that executes. Faults if it is undefined or leaves the lane itself out.
void read_members(Context& c, const Operand& o, Mask* members);
// The mask that all lanes that execute give, each of them in it; 0: it takes a closer look.
Mask common_members(const Context& c, const Operand& o);
// Those of the lanes whose mask this is.
Mask lanes_with(Mask lanes, const Mask* members, Mask value);
// The sync that the split was woken for.
Rendezvous& awaited(Context& c);
// Its lanes have gone on.
void leave(Context& c, Rendezvous& r);
// The sync of this kind and mask that is under way, or a new one.
Rendezvous& join(Warp& warp, WarpSync kind, Mask members);
// The lanes have brought what they have: the split sleeps until all have.
void arrive(Context& c, Rendezvous& r, Mask lanes);
// All lanes of a sync have come and none has gone on: the moment at which they are in order.
void observe_sync(Context& c);

// Brings the lanes of each mask together: bring(c, brought) adds what the executing lanes have, finish(c, brought,
// there) gives the executing lanes, which are of one mask, their results; `there` are all that took part.
template <class Bring, class Finish>
Outcome synchronise(Context& c, WarpSync kind, const Operand& mask_operand, Bring&& bring, Finish&& finish) {
  Split& split = *c.split;
  if (split.arrived) {
    Rendezvous& r = awaited(c);
    finish(c, r.brought, r.arrived);
    leave(c, r);
    return Outcome::next;
  }
  const Mask live = c.warp->live;
  if (const Mask value = common_members(c, mask_operand); value && (value & live & ~c.lanes) == 0) [[likely]] {
    Brought brought;
    bring(c, brought);
    finish(c, brought, c.lanes);
    if (kind == WarpSync::barrier) observe_sync(c);
    return Outcome::next;
  }
  Mask members[kLanes];
  read_members(c, mask_operand, members);
  bool all_here = true;
  for (Mask rest = c.lanes; rest;) {
    const Mask value = members[first_lane(rest)], group = lanes_with(rest, members, value);
    all_here = all_here && (value & live & ~group) == 0;
    rest &= ~group;
  }
  if (all_here) [[likely]] {
    Brought brought;
    bring(c, brought);
    const Mask all = c.lanes;
    for (Mask rest = all; rest;) {
      c.lanes = lanes_with(rest, members, members[first_lane(rest)]);
      rest &= ~c.lanes;
      finish(c, brought, c.lanes);
      if (kind == WarpSync::barrier) observe_sync(c);
    }
    c.lanes = all;
    return Outcome::next;
  }
  // Someone has to wait. Lanes whose guard is false go on by themselves, those of other masks wait by themselves.
  if (const Mask others = split.lanes & ~c.lanes) c.divide(others).pc = c.pc + 1;
  const Mask value = members[first_lane(c.lanes)], group = lanes_with(c.lanes, members, value);
  if (const Mask others = c.lanes & ~group) c.divide(others);
  Rendezvous& r = join(*c.warp, kind, value);
  bring(c, r.brought);
  arrive(c, r, group);
  return Outcome::repeat;
}

}  // namespace foretoken::machine
