// Which registers hold something that is still needed, at the ends of blocks.
#pragma once
#include <vector>

#include "accesses.h"
#include "control_flow.h"
#include "register_set.h"

namespace foretoken::ptx {

struct Liveness {
  std::vector<std::vector<Access>> accesses;  // [statements]
  std::vector<RegisterSet> live_out;          // [blocks] at the end: read on some path before they are written
  std::vector<RegisterSet> in_flight_in;      // [blocks] at the beginning: operands of a wgmma that may still run
};

Liveness liveness(const Module& module, const Function& function, const ControlFlow& flow);

// From behind a statement to before it.
void step_back(const Statement& statement, const std::vector<Access>& accesses, RegisterSet& live);
// From before a statement to behind it.
void step_forward(const Statement& statement, const std::vector<Access>& accesses, RegisterSet& in_flight);

}  // namespace foretoken::ptx
