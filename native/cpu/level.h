// What every per-level file starts from. A file of native/cpu is compiled once per SIMD level with
// FORETOKEN_LEVEL = avx2 | avx512 | avx512bf16 | amx; all its code lives in namespace foretoken::FORETOKEN_LEVEL or is
// static, and it includes nothing that defines inline functions elsewhere: else the linker may hand one level's copy of
// such a function to another, and the generic level dies of an illegal instruction (seen with std::vector).
#pragma once
#include "../kernels.h"

#ifdef FORETOKEN_LEVEL
#define FORETOKEN_LEVEL_NAMESPACE foretoken::FORETOKEN_LEVEL
#else
#define FORETOKEN_LEVEL_NAMESPACE foretoken::generic
#endif

// Each kernel family fills its slots of the table; the generic level fills all, the others override what they speed up.
namespace FORETOKEN_LEVEL_NAMESPACE {
void fill_elementwise(Kernels& table);
void fill_linear(Kernels& table);
void fill_rms_norm(Kernels& table);
void fill_attention(Kernels& table);
void fill_swiglu(Kernels& table);
void fill_embedding(Kernels& table);
void fill_rnn(Kernels& table);
void fill_cross_entropy(Kernels& table);
void fill_plain_cross_entropy(Kernels& table);
void fill_metrics(Kernels& table);
void fill_optimizer(Kernels& table);
void fill_sample(Kernels& table);
void fill_draft(Kernels& table);  // of the generic level alone
int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k);
}  // namespace FORETOKEN_LEVEL_NAMESPACE
