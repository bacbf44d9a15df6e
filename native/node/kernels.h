// The functions of FORETOKEN_KERNELS as JavaScript sees them.
#pragma once
#include <string>

#include "../kernels.h"
#include "environment.h"

namespace foretoken::node {

// Adds `rmsNorm(x, weight, y, eps)` and so on.
void export_kernels(Environment& environment, napi_value exports);

// The text of lib/native.generated.d.ts.
std::string declarations();

}  // namespace foretoken::node
