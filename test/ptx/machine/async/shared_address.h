// Addresses of shared memory as the asynchronous instructions take them.
#pragma once
#include "../access.h"
#include "../table.h"

namespace foretoken::machine {

// How an operand names shared memory.
enum class SharedSpelling : uint32_t {
  generic,  // without a state space: an address within the shared window
  block,    // .shared, .shared::cta: of the block itself
  cluster   // .shared::cluster: of any block of the cluster
};

// Takes the state space of a shared operand from the modifiers; generic if there is none.
SharedSpelling take_shared(Form& form);

// A lane's address as rank << 24 | offset; faults where it is not what the spelling says.
uint64_t resolve_shared(Context& c, int lane, uint64_t address, SharedSpelling spelling);

// The same for an operand, of the lanes that execute.
void shared_addresses(Context& c, const Operand& operand, SharedSpelling spelling, uint64_t* addresses);

// Runs f with only some of the lanes executing: faults and events name them.
template <class F>
void as_lanes(Context& c, Mask lanes, F f) {
  const Mask all = c.lanes;
  c.lanes = lanes;
  f();
  c.lanes = all;
}
template <class F>
void as_lane(Context& c, int lane, F f) {
  as_lanes(c, 1u << lane, f);
}

// Those of the executing lanes whose operands are all the same as this lane's.
Mask lanes_like(const Context& c, const Instruction& i, int lane);

// A lane's value of a 32- or 64-bit operand, which must be defined: it decides `what`.
uint64_t defined_value(Context& c, const Operand& operand, int lane, const char* what);

}  // namespace foretoken::machine
