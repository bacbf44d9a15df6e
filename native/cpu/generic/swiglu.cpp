#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_swiglu(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
