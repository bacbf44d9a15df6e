// bf16 products by wgmma and TMA: the kernels that are compiled, one per gemm_sm90_*.cu.
#pragma once
#include "gemm.h"

namespace foretoken::cuda::sm90 {

// Names say order, dtypes of d, tile. a, b, c and d must start on 16 bytes, with strides of whole 16 bytes.
// c is bf16 for nt, and of d's dtype otherwise.
void multiply_nt_bf16_128x256(const Call& call, const Product& product);
void multiply_nt_bf16_64x64(const Call& call, const Product& product);
void multiply_nt_f32_64x128(const Call& call, const Product& product);
void multiply_nn_bf16_128x256(const Call& call, const Product& product);
void multiply_nn_f32_128x128(const Call& call, const Product& product);
void multiply_tn_f32_64x256(const Call& call, const Product& product);

}  // namespace foretoken::cuda::sm90
