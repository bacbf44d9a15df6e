#include "cross_entropy_logits.cuh"

namespace foretoken::cuda {

void launch_logits_bf16_unaligned(const Call& call, LogitUse use, const Logits& logits) {
  launch_use<MmaBlock<false, 4>, MmaBlock<false, 2>>(call, use, logits);
}

}  // namespace foretoken::cuda
