// Devices, tensors, recordings and reading back: what JavaScript calls beside kernels.
#pragma once
#include "environment.h"

namespace foretoken::node {

void export_runtime(Environment& environment, napi_value exports);

}  // namespace foretoken::node
