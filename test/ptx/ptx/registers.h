// Liveness, and from it rows of a warp's register file for the virtual registers of one function.
//
// A row is 32 lanes × 32 bits (128 bytes). 8-, 16- and 32-bit registers take one row (uint32_t[32]), 64-bit two
// adjacent rows used as uint64_t[32], 128-bit four used as 16-byte lanes; predicates are 32-bit masks in a file of
// their own. Lanes of a warp may stand at different places of the program at once. Two registers may still share rows
// if they do not interfere on the control-flow graph: each lane owns its column and walks one path. That holds only
// while a row has ONE lane layout, so rows of 32-, 64- and 128-bit registers are never mixed.
#pragma once
#include <cstdint>
#include <vector>

#include "control_flow.h"
#include "module.h"

namespace foretoken::ptx {

constexpr uint32_t kUnallocated = UINT32_MAX;  // a register that no instruction mentions

struct Allocation {
  // [registers] first row, or for predicates the index in the predicate file, or kUnallocated. 128-bit registers come
  // first, at multiples of 4, then 64-bit ones at even rows, then the others.
  std::vector<uint32_t> slot;
  uint32_t rows = 0;        // rows used by the function
  uint32_t predicates = 0;  // predicate masks used
};

// A result never shares rows with a source of the same statement unless they are the same register, so an instruction
// may write its first result before it has read its last operand. `mov` may: its result gets its source's rows where
// possible, and is then nothing to do. A register that may be read before it is written shares its rows with nothing on
// the way there, so in a fresh frame it reads what the frame was filled with. Operands of wgmma keep their rows until
// the `wgmma.wait_group 0` behind.
Allocation allocate_registers(const Module& module, const Function& function, const ControlFlow& flow);

}  // namespace foretoken::ptx
