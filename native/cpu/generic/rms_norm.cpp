#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_rms_norm(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
