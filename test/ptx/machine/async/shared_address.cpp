#include "shared_address.h"

#include <sstream>

namespace foretoken::machine {

SharedSpelling take_shared(Form& form) {
  switch (form.take_one({"shared::cluster", "shared::cta", "shared"})) {
    case 0: return SharedSpelling::cluster;
    case 1:
    case 2: return SharedSpelling::block;
    default: return SharedSpelling::generic;
  }
}

uint64_t resolve_shared(Context& c, int lane, uint64_t address, SharedSpelling spelling) {
  if (spelling == SharedSpelling::cluster) return address;
  if (spelling == SharedSpelling::generic && is_shared(address)) return address - kSharedWindow;
  if (spelling == SharedSpelling::block && address >> kSharedRankShift == c.block->rank) return address;
  std::ostringstream text;
  text << "address 0x" << std::hex << address
       << (spelling == SharedSpelling::generic ? " is not in shared memory"
                                               : " is not in the block's own shared memory, as .shared::cta says");
  c.fault(FaultKind::address, lane, text.str());
}

void shared_addresses(Context& c, const Operand& operand, SharedSpelling spelling, uint64_t* addresses) {
  c.addresses(operand, addresses);
  for (int lane : each(c.lanes)) addresses[lane] = resolve_shared(c, lane, addresses[lane], spelling);
}

uint64_t defined_value(Context& c, const Operand& operand, int lane, const char* what) {
  if (c.undefined(operand) >> lane & 1) c.fault_undefined(1u << lane, what);
  return operand.bits == 64 ? c.source<uint64_t>(operand)[lane] : c.source<uint32_t>(operand)[lane];
}

Mask lanes_like(const Context& c, const Instruction& i, int lane) {
  Mask same = c.lanes;
  for (int k = 0; k < i.operand_count; ++k) {
    if (i[k].kind != OperandKind::row && i[k].kind != OperandKind::address) continue;
    for (int other : each(c.lanes)) {
      const bool equal = i[k].bits == 64 ? c.source<uint64_t>(i[k])[other] == c.source<uint64_t>(i[k])[lane]
                                         : c.source<uint32_t>(i[k])[other] == c.source<uint32_t>(i[k])[lane];
      if (!equal) same &= ~(1u << other);
    }
  }
  return same;
}

}  // namespace foretoken::machine
