#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_elementwise(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
