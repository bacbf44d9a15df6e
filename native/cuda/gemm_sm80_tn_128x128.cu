#include "gemm_sm80.cuh"

namespace foretoken::cuda {

void multiply_tn_128x128(const Call& call, const Product& product) {
  TensorProduct<Order::tn, Tile<128, 128, 64, 64, 4>>::launch(call, product);
}

}  // namespace foretoken::cuda
