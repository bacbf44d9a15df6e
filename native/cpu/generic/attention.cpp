#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_attention(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
