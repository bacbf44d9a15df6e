#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_metrics(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
