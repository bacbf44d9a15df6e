// One wgmma under way: what four warps have asked for, computed once for all of them.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "../machine.h"
#include "wgmma_plan.h"

namespace foretoken::machine {

// Accumulators of a warp that products under way have taken over. Nobody may touch their registers until they are
// waited for; what they really hold is known here.
struct Accumulators {
  const WgmmaPlan* plan = nullptr;    // the first product's, for the registers
  uint32_t products = 0;              // that have not been waited for
  bool defined = true;                // every lane of every register
  std::vector<Mask> undefined_lanes;  // [registers], if not
};

struct WarpgroupProduct {
  explicit WarpgroupProduct(const Context& c, const WgmmaPlan& plan) : plan(plan), block(c.block), pc(c.pc) {}

  const WgmmaPlan& plan;
  Block* block;
  uint32_t pc;
  uint32_t joined = 0;      // bit per warp that has issued it
  uint64_t operation = 0;   // its number, once all have
  bool waited_for = false;  // by any warp: its operands may be overwritten
  bool scale_d = false;
  SharedOperand a, b;  // a: unless in registers
  struct Fragments {
    SpreadA values;
    std::array<std::array<uint32_t, kLanes>, 4> words;  // the registers
    uint32_t undefined_rows = 0;
  };
  // By warp of the group:
  std::array<Context, kWarpgroupWarps> contexts;
  std::array<std::shared_ptr<Accumulators>, kWarpgroupWarps> accumulators;
  std::array<std::unique_ptr<Fragments>, kWarpgroupWarps> fragments;  // A in registers, read when it was issued

  bool is_complete() const { return joined == (1u << kWarpgroupWarps) - 1; }
  void compute(uint64_t agent);
  bool reads(const SharedRange& range) const {
    return (!plan.a_in_registers && reads_from(a, range)) || reads_from(b, range);
  }

 private:
  void compute_warp(uint32_t warp, const SpreadA& a, const SpreadB& b) const;
};

}  // namespace foretoken::machine
