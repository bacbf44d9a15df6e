// The kernel tables of all compiled SIMD levels. Call only from backend.cpp, under its lock.
#pragma once
#include "../kernels.h"

namespace foretoken {
#define FORETOKEN_X86_LEVELS(X) X(avx2) X(avx512) X(avx512bf16) X(amx)
#define X(level)                                                  \
  namespace level {                                               \
  const Kernels& table();                                         \
  int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k); \
  }
X(generic)
#if defined(FORETOKEN_ALL_LEVELS)
FORETOKEN_X86_LEVELS(X)
#endif
#undef X
}  // namespace foretoken
