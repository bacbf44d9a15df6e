#include "gemm_sm90.cuh"

namespace foretoken::cuda::sm90 {

using cute::Int, cute::Shape, cutlass::bfloat16_t;

void multiply_tn_f32_64x256(const Call& call, const Product& product) {
  using Kernel = TensorProduct<Order::tn, Shape<Int<64>, Int<256>, Int<64>>, Shape<_2, _1, _1>, PingPong, float, float>;
  Kernel::launch(call, product);
}

}  // namespace foretoken::cuda::sm90
