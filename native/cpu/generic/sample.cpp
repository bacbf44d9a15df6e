#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_sample(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
