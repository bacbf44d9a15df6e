#include "gemm_sm80.cuh"

namespace foretoken::cuda {

void multiply_nt_16x64(const Call& call, const Product& product) {
  TensorProduct<Order::nt, Tile<16, 64, 16, 32, 6>>::launch(call, product);
}

}  // namespace foretoken::cuda
