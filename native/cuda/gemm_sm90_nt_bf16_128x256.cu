#include "gemm_sm90.cuh"

namespace foretoken::cuda::sm90 {

using cute::Int, cute::Shape, cutlass::bfloat16_t;

void multiply_nt_bf16_128x256(const Call& call, const Product& product) {
  using Kernel = TensorProduct<Order::nt, Shape<Int<128>, Int<256>, Int<64>>, Shape<_2, _1, _1>, Cooperative,
                               bfloat16_t, bfloat16_t>;
  Kernel::launch(call, product);
}

}  // namespace foretoken::cuda::sm90
