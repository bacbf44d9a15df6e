// Which sums a launch has asked for.
#pragma once
#include "../machine.h"
#include "product.h"

namespace foretoken::machine {

inline Accumulation accumulation_of(const Launch& launch) {
  return launch.options.truncate_tensor_sums ? Accumulation::kAligned : Accumulation::kSequential;
}

}  // namespace foretoken::machine
