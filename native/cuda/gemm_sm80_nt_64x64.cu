#include "gemm_sm80.cuh"

namespace foretoken::cuda {

void multiply_nt_64x64(const Call& call, const Product& product) {
  TensorProduct<Order::nt, Tile<64, 64, 32, 32, 4>>::launch(call, product);
}

}  // namespace foretoken::cuda
