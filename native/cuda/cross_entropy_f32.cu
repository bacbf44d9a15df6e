#include "cross_entropy_logits.cuh"

namespace foretoken::cuda {

void launch_logits_f32(const Call& call, LogitUse use, const Logits& logits) {
  launch_use<FmaBlock, FmaBlock>(call, use, logits);
}

}  // namespace foretoken::cuda
