// Which GPUs there are, and which kernels run on them.
#pragma once
#include <string>

#include "../core/gpu.h"

namespace foretoken::cuda {

// The level of the kernels for a compute capability; "" when it is too old for any.
// wgmma and TMA as we use them exist on 9.0 alone; every other device from 8.0 on runs what is compiled for 8.0.
std::string level_for(int major, int minor);

}  // namespace foretoken::cuda
