// The product engine of a SIMD level: one thread, one block of C = A·B in fp32. `linear`, the fused cross-entropy and
// attention are built from it, with their own epilogues on C while it is still in cache.
//
// Summation order: an element of C is one chain over k ascending, in the level's own step, starting from 0 or from C.
// It depends on K and the level only, never on the rows or columns that happen to be computed together.
#pragma once
#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int64_t kPanel = 16;  // columns of a packed panel

// A (rows × columns) matrix in memory: element (r,c) is data[r·stride + c], or data[c·stride + r] when transposed.
struct Matrix {
  const void* data;
  DType dtype;  // f32 or bf16
  int64_t rows, columns, stride;
  bool transposed;
};

// Bytes of a packed B (k×n): panels of kPanel columns; bf16: [n/16][k/2][16][2] (pairs of k side by side), f32:
// [n/16][k][16]; k rounded up to 32 (bf16), n to 16; padding is zero.
int64_t packed_bytes(DType dtype, int64_t k, int64_t n);
// Packs columns [n0, n1) of B, n0 a multiple of kPanel, to where they belong in the packed whole.
void pack_b(const Matrix& b, int64_t n0, int64_t n1, void* packed);
// Start of the panel that holds column n (a multiple of kPanel).
const void* packed_panel(DType dtype, const void* packed, int64_t k, int64_t n);

// c[m × n, stride ldc] (+)= a[m × k, stride lda] · packed columns [0, n) from packed_panel. a and packed have the same
// dtype. Reads nothing outside the m × k elements of a; n may be any number. Stores zeros nowhere beyond n.
// Any m, n, k: the block is cut for the caches inside, and fastest with packed (k × n) in L2. Every pointer may have
// any alignment; 64 bytes is fastest. A call costs about 50 ns with AMX (tile configuration): give it 32 × 64 or more.
void gemm_block(DType dtype, const void* a, int64_t lda, const void* packed, int64_t m, int64_t n, int64_t k, float* c,
                int64_t ldc, bool accumulate);

// out[c][r] = in[r][c]: (rows × columns, stride ldi) to (columns × rows, stride ldo). For A operands that lie across.
void transpose(DType dtype, const void* in, int64_t ldi, int64_t rows, int64_t columns, void* out, int64_t ldo);

}  // namespace FORETOKEN_LEVEL_NAMESPACE
