// Multiplications that the hardware's compiler may fuse with the addition behind them.
#pragma once
#include "code.h"

namespace foretoken::machine {

// PTX leaves `mul` and `add` without a rounding to be fused or not. For each product that only one sum uses, in the
// same basic block, the sum as a fused instruction: Options::fuse puts a seeded choice of them in the place of the
// sums.
void find_fusions(Code& code);

// The code's instructions with about half of the fusions made, chosen by the seed.
std::vector<Instruction> with_fusions(const Code& code, uint64_t seed);

}  // namespace foretoken::machine
