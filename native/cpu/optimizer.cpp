#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_optimizer(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
