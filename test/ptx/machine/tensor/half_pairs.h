// Accumulators of f16: a register holds two neighbouring columns, where fp32 takes two registers.
#pragma once
#include "product.h"

namespace foretoken::machine {

// `pairs`: 32 lanes of f16x2; `even`, `odd`: 32 floats each.
inline void unpack_pairs(const uint32_t* pairs, float* even, float* odd) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    even[lane] = f16_to_float(static_cast<uint16_t>(pairs[lane]));
    odd[lane] = f16_to_float(static_cast<uint16_t>(pairs[lane] >> 16));
  }
}
inline void pack_pairs(const float* even, const float* odd, uint32_t* pairs) {
  for (int lane = 0; lane < kWarpLanes; ++lane)
    pairs[lane] = float_to_f16(even[lane]) | static_cast<uint32_t>(float_to_f16(odd[lane])) << 16;
}

}  // namespace foretoken::machine
