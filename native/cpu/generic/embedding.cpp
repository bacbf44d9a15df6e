#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_embedding(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
