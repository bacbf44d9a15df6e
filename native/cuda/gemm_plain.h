// Products of any shape, stride and alignment: f32 by FFMA, and bf16 by mma.sync where CUTLASS cannot load the factors.
#pragma once
#include "gemm.h"

namespace foretoken::cuda {

void multiply_f32(const Call& call, const Product& product);
void multiply_bf16_plain(const Call& call, const Product& product);

}  // namespace foretoken::cuda
