// The kernel table of one SIMD level: the generic one with what this level speeds up laid over it.
#include "table.h"

#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

const Kernels& table() {
  static Kernels kernels;
  static bool filled = false;
  if (!filled) {
#ifdef FORETOKEN_LEVEL
    kernels = generic::table();
#else
    fill_draft(kernels);
#endif
    fill_elementwise(kernels);
    fill_linear(kernels);
    fill_rms_norm(kernels);
    fill_attention(kernels);
    fill_swiglu(kernels);
    fill_embedding(kernels);
    fill_rnn(kernels);
    fill_cross_entropy(kernels);
    fill_plain_cross_entropy(kernels);
    fill_metrics(kernels);
    fill_optimizer(kernels);
    fill_sample(kernels);
    filled = true;
  }
  return kernels;
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
