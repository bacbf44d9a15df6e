// The kernel tables of the CUDA backend, and the functions of each file that fill them.
#pragma once
#include "../kernels.h"

namespace foretoken::cuda {

// mma.sync and plain CUDA: every device from 8.0 on.
const Kernels& sm80_table();
// The same with the products of wgmma and TMA laid over it: devices that are exactly 9.0.
const Kernels& sm90_table();

int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k);

void fill_elementwise(Kernels& table);
void fill_linear(Kernels& table);
void fill_rms_norm(Kernels& table);
void fill_rope(Kernels& table);
void fill_attention(Kernels& table);
void fill_attention_backward(Kernels& table);
void fill_attention_cached(Kernels& table);
void fill_swiglu(Kernels& table);
void fill_embedding(Kernels& table);
void fill_rnn(Kernels& table);
void fill_cross_entropy(Kernels& table);
void fill_plain_cross_entropy(Kernels& table);
void fill_metrics(Kernels& table);
void fill_optimizer(Kernels& table);
void fill_sample(Kernels& table);
void fill_draft(Kernels& table);

void fill_linear_sm90(Kernels& table);
void fill_cross_entropy_sm90(Kernels& table);

}  // namespace foretoken::cuda
