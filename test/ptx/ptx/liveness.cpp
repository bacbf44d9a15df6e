#include "liveness.h"

namespace foretoken::ptx {
namespace {

// Data flow to its fixed point: `update` recomputes a block and says whether it changed.
template <class Update>
void iterate(size_t blocks, bool backward, Update update) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < blocks; ++i) changed |= update(backward ? blocks - 1 - i : i);
  }
}

bool is_wgmma(const Statement& statement) { return statement.mnemonic == "wgmma"; }

bool waits_for_all(const Statement& statement) {
  return is_wgmma(statement) && statement.has("wait_group") && statement.operands[0].bits == 0;
}

}  // namespace

void step_back(const Statement& statement, const std::vector<Access>& accesses, RegisterSet& live) {
  // Lanes whose guard is false keep the old value.
  if (!statement.guard)
    for (const Access& access : accesses)
      if (access.written) live.remove(access.reg);
  for (const Access& access : accesses)
    if (access.read) live.add(access.reg);
}

void step_forward(const Statement& statement, const std::vector<Access>& accesses, RegisterSet& in_flight) {
  if (!is_wgmma(statement)) return;
  if (statement.has("mma_async"))
    for (const Access& access : accesses) in_flight.add(access.reg);
  else if (waits_for_all(statement))
    in_flight.clear();
}

Liveness liveness(const Module& module, const Function& function, const ControlFlow& flow) {
  const size_t blocks = flow.blocks.size();
  const RegisterSet none(function.registers.size());
  Liveness result;
  bool uses_wgmma = false;
  for (const Statement& statement : function.body) {
    result.accesses.push_back(register_accesses(module, function, statement));
    uses_wgmma |= is_wgmma(statement);
  }

  result.live_out.assign(blocks, none);
  std::vector<RegisterSet> live_in(blocks, none);
  iterate(blocks, true, [&](size_t b) {
    RegisterSet& out = result.live_out[b];
    for (const uint32_t successor : flow.blocks[b].successors) out.add_all(live_in[successor]);
    RegisterSet live = out;
    for (uint32_t i = flow.blocks[b].end; i-- > flow.blocks[b].begin;)
      step_back(function.body[i], result.accesses[i], live);
    return live_in[b].add_all(live);
  });

  result.in_flight_in.assign(blocks, none);
  if (!uses_wgmma) return result;
  std::vector<RegisterSet> in_flight_out(blocks, none);
  iterate(blocks, false, [&](size_t b) {
    RegisterSet& in = result.in_flight_in[b];
    for (const uint32_t predecessor : flow.blocks[b].predecessors) in.add_all(in_flight_out[predecessor]);
    RegisterSet in_flight = in;
    for (uint32_t i = flow.blocks[b].begin; i < flow.blocks[b].end; ++i)
      step_forward(function.body[i], result.accesses[i], in_flight);
    return in_flight_out[b].add_all(in_flight);
  });
  return result;
}

}  // namespace foretoken::ptx
