// Packing of B, and the choice of the product that a level multiplies with.
#include "gemm.h"

#include "gemm_amx.h"
#include "gemm_vector.h"
#include "simd.h"
#include "transpose.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

// A packed panel is [words][kPanel] words of 4 bytes: a pair of k (bf16) or one k (f32) each.
static int64_t panel_words(DType dtype, int64_t k) { return dtype == DType::bf16 ? (k + 31) / 32 * 16 : k; }
static int64_t panel_bytes(DType dtype, int64_t k) { return panel_words(dtype, k) * kPanel * 4; }

int64_t packed_bytes(DType dtype, int64_t k, int64_t n) { return (n + kPanel - 1) / kPanel * panel_bytes(dtype, k); }

const void* packed_panel(DType dtype, const void* packed, int64_t k, int64_t n) {
  return static_cast<const char*>(packed) + n / kPanel * panel_bytes(dtype, k);
}

// A panel of columns that lie along k in memory: 16 × 16 words transposed at a time.
static void pack_panel_along(const Block& columns, int64_t words, char* panel) {
  constexpr int64_t kRow = kPanel * 4;
  for (int64_t word = 0; word < words; word += 16) {
    int64_t bytes = columns.bytes - word * 4;
    Block from = {columns.data + word * 4, columns.stride, columns.rows, bytes < 64 ? bytes : 64};
    transpose_words(from, {panel + word * kRow, kRow, words - word < 16 ? words - word : 16, kRow});
  }
}

// A panel of columns that lie across: rows of k are copied (f32) or interleaved in pairs (bf16).
static void pack_panel_across(const Matrix& b, int64_t n, int64_t count, int64_t words, char* panel) {
  for (int64_t word = 0; word < words; word++, panel += kPanel * 4) {
    if (b.dtype == DType::f32) {
      const float* row = static_cast<const float*>(b.data) + word * b.stride + n;
      float* to = reinterpret_cast<float*>(panel);
      for (int64_t i = 0; i < kPanel; i += kWidth) store(to + i, count > i ? load_n(row + i, count - i) : zero());
    } else {
      const bf16* even = static_cast<const bf16*>(b.data) + 2 * word * b.stride + n;
      interleave(2 * word < b.rows ? even : nullptr, 2 * word + 1 < b.rows ? even + b.stride : nullptr, count, panel);
    }
  }
}

void pack_b(const Matrix& b, int64_t n0, int64_t n1, void* packed) {
  int64_t element = bytes_per_element(b.dtype), words = panel_words(b.dtype, b.rows);
  for (int64_t n = n0; n < n1; n += kPanel) {
    int64_t count = n1 - n < kPanel ? n1 - n : kPanel;
    char* panel = static_cast<char*>(packed) + n / kPanel * panel_bytes(b.dtype, b.rows);
    if (b.transposed) {
      char* first = static_cast<char*>(const_cast<void*>(b.data)) + n * b.stride * element;
      pack_panel_along({first, b.stride * element, count, b.rows * element}, words, panel);
    } else {
      pack_panel_across(b, n, count, words, panel);
    }
  }
}

void gemm_block(DType dtype, const void* a, int64_t lda, const void* packed, int64_t m, int64_t n, int64_t k, float* c,
                int64_t ldc, bool accumulate) {
  int64_t panel = panel_bytes(dtype, k);
  if (dtype == DType::f32)
    return vector_gemm<FloatProduct>(static_cast<const float*>(a), lda, packed, panel, m, n, k, c, ldc, accumulate);
  const bf16* operand = static_cast<const bf16*>(a);
#if defined(__AMX_BF16__)
  amx_gemm(operand, lda, packed, panel, m, n, k, c, ldc, accumulate);
#elif defined(__AVX512BF16__)
  vector_gemm<PairProduct>(operand, lda, packed, panel, m, n, k, c, ldc, accumulate);
#else
  vector_gemm<WidenedProduct>(operand, lda, packed, panel, m, n, k, c, ldc, accumulate);
#endif
}

static void transpose_f32(const float* in, int64_t ldi, int64_t rows, int64_t columns, float* out, int64_t ldo) {
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) {
      int64_t height = rows - r < 16 ? rows - r : 16, width = columns - c < 16 ? columns - c : 16;
      char* from = reinterpret_cast<char*>(const_cast<float*>(in + r * ldi + c));
      transpose_words({from, ldi * 4, height, width * 4},
                      {reinterpret_cast<char*>(out + c * ldo + r), ldo * 4, width, height * 4});
    }
}

// Rows are first paired into words.
static void transpose_bf16(const bf16* in, int64_t ldi, int64_t rows, int64_t columns, bf16* out, int64_t ldo) {
  for (int64_t r = 0; r < rows; r += 32)
    for (int64_t c = 0; c < columns; c += 16) {
      int64_t height = rows - r < 32 ? rows - r : 32, width = columns - c < 16 ? columns - c : 16;
      alignas(64) char pairs[16 * 64];
      const bf16* from = in + r * ldi + c;
      for (int64_t pair = 0; 2 * pair < height; pair++)
        interleave(from + 2 * pair * ldi, 2 * pair + 1 < height ? from + (2 * pair + 1) * ldi : nullptr, width,
                   pairs + pair * 64);
      transpose_words({pairs, 64, (height + 1) / 2, 64},
                      {reinterpret_cast<char*>(out + c * ldo + r), ldo * 2, width, height * 2});
    }
}

void transpose(DType dtype, const void* in, int64_t ldi, int64_t rows, int64_t columns, void* out, int64_t ldo) {
  if (dtype == DType::f32)
    transpose_f32(static_cast<const float*>(in), ldi, rows, columns, static_cast<float*>(out), ldo);
  else
    transpose_bf16(static_cast<const bf16*>(in), ldi, rows, columns, static_cast<bf16*>(out), ldo);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
