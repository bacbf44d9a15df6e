// A GPU as one JavaScript environment uses it.
#pragma once
#include <memory>

#include "../core/gpu.h"

namespace foretoken::cuda {

// nullptr and the failure when the GPU cannot be used after all.
std::unique_ptr<Gpu> open(const GpuInfo& info, bool sync, Failure& failure);

}  // namespace foretoken::cuda
