#include "../level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_linear(Kernels&) {}
int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k) { return n * k * bytes_per_element(dtype); }
}  // namespace FORETOKEN_LEVEL_NAMESPACE
