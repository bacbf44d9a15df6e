// bf16 products by mma.sync: the tiles that are compiled, one per gemm_sm80_*.cu.
#pragma once
#include "gemm.h"

namespace foretoken::cuda {

// Steps of k that a block takes at once. One for all tiles, see gemm_sm80.cuh.
constexpr int kTileK = 32;

// Shared memory that a kernel may use without asking, in bytes.
constexpr int kDefaultSharedBytes = 48 << 10;

// Names say order and tile. a and b must start on 16 bytes, with strides that are multiples of 8; K ≥ 8.
void multiply_nt_128x128(const Call& call, const Product& product);
void multiply_nt_64x64(const Call& call, const Product& product);
void multiply_nt_16x64(const Call& call, const Product& product);
void multiply_nn_128x128(const Call& call, const Product& product);
void multiply_nn_64x64(const Call& call, const Product& product);
void multiply_tn_128x128(const Call& call, const Product& product);
void multiply_tn_64x64(const Call& call, const Product& product);

}  // namespace foretoken::cuda
