#include "cross_entropy_logits.cuh"

namespace foretoken::cuda {

void launch_logits_bf16(const Call& call, LogitUse use, const Logits& logits) {
  launch_use<MmaBlock<true, 4>, MmaBlock<true, 2>>(call, use, logits);
}

}  // namespace foretoken::cuda
