// What ld, st, atom and red have in common: modifiers, state spaces, and the memory behind an address.
#pragma once
#include "access.h"
#include "table.h"

namespace foretoken::machine {

struct MemoryForm {
  Space space = Space::generic;
  bool function_parameter = false;  // .param::func, .param of a call
  Order order = Order::weak;
  Scope scope = Scope::none;
};

// Takes state space, order, scope, cache operators and hints.
MemoryForm take_memory_form(Form& form);

// Into and out of Instruction::parameter[3].
inline uint32_t packed(const MemoryForm& m) {
  return static_cast<uint32_t>(m.space) | static_cast<uint32_t>(m.order) << 8 | static_cast<uint32_t>(m.scope) << 16;
}
inline Space space_of(const Instruction& i) { return static_cast<Space>(i.parameter[3] & 0xff); }
inline Order order_of(const Instruction& i) { return static_cast<Order>(i.parameter[3] >> 8 & 0xff); }
inline Scope scope_of(const Instruction& i) { return static_cast<Scope>(i.parameter[3] >> 16 & 0xff); }

// Local memory and the call area: each lane has its own.
struct LaneMemory {
  uint8_t* values = nullptr;
  uint8_t* undefined = nullptr;  // byte per byte
  uint32_t bytes = 0;            // per lane
};

// One memory that some of the lanes reach. Addresses within it: address - start.
struct Place {
  Space space = Space::global;  // resolved
  Memory* memory = nullptr;     // or:
  LaneMemory lane_memory;
  uint64_t start = 0;  // subtracted from the lanes' addresses
};

// Calls visit(place, addresses) for each memory that the executing lanes' addresses fall into, with c.lanes narrowed to
// the lanes concerned and the addresses as the place counts them.
template <class Visit>
void for_each_place(Context& c, Space space, uint64_t* addresses, Visit&& visit);

// The place of one lane's address, and which other lanes of c.lanes share it.
Place find_place(Context& c, Space space, const uint64_t* addresses, Mask rest, Mask& here);

template <class Visit>
void for_each_place(Context& c, Space space, uint64_t* addresses, Visit&& visit) {
  const Mask all = c.lanes;
  for (Mask rest = all; rest;) {
    Mask here = rest;
    const Place place = find_place(c, space, addresses, rest, here);
    c.lanes = here;
    if (place.start)
      for (int lane = 0; lane < kLanes; ++lane) addresses[lane] -= here >> lane & 1 ? place.start : 0;
    visit(place, addresses);
    rest &= ~here;
  }
  c.lanes = all;
}

// Faults on a lane's access outside of its own memory, or misaligned.
inline void check_lane_access(const Context& c, const LaneMemory& memory, int lane, uint64_t address, uint32_t bytes,
                              const char* what) {
  if (address % bytes) [[unlikely]]
    c.fault(FaultKind::address, lane, std::string("misaligned ") + what + " of local memory or a parameter");
  if (address + bytes > memory.bytes) [[unlikely]]
    c.fault(FaultKind::address, lane,
            std::string(what) + " of local memory or a parameter at offset " + std::to_string(address) + " of " +
                std::to_string(memory.bytes) + " bytes");
}

}  // namespace foretoken::machine
