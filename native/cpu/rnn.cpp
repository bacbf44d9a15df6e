#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_rnn(Kernels&) {}
}  // namespace FORETOKEN_LEVEL_NAMESPACE
