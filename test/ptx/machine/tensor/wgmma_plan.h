// A wgmma.mma_async as decoded: shapes, operands, and whether its registers are fenced.
#pragma once
#include <string>
#include <vector>

#include "../table.h"
#include "shared_operand.h"

namespace foretoken::machine {

constexpr int kWarpgroupWarps = 4;
constexpr uint32_t kWarpgroupRows = 64;

struct WgmmaPlan {
  Element element = Element::kBf16;
  uint32_t depth = 0, columns = 0;
  Major a_major = Major::k, b_major = Major::k;
  bool a_in_registers = false;
  bool half = false;  // D in f16
  bool negated = false;
  int a = 0, b = 0, scale_d = 0;       // flat numbers of operands
  std::vector<uint32_t> accumulators;  // rows of the register file, in the order of D
  // Where a register of D or A may have been written with no wgmma.fence since, "" if nowhere.
  std::string unfenced;
};

void select_wgmma(Form& form);

// The handler of wgmma.mma_async and of its waits.
Outcome wgmma(Context& c, const Instruction& i);
Outcome wgmma_fence(Context& c, const Instruction& i);
Outcome wgmma_commit(Context& c, const Instruction& i);
Outcome wgmma_wait(Context& c, const Instruction& i);  // parameter[0]: groups that may be pending

}  // namespace foretoken::machine
