// bf16 products on AMX tiles (Intel Architecture Instruction Set Extensions, chapter 3): 32 × 32 of C in four tiles,
// two tiles of A read in place, two panels of B; TDPBF16PS adds 32 k at a time.
#pragma once
#if defined(__AMX_BF16__)
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int kTileK = 32;           // bf16 across a tile of A
constexpr int kTileBytes = 64 * 16;  // of B: 16 pairs of k × 16 columns
// K beyond this is cut, so that 32 rows of A stay in L1; C is stored and taken up again, which changes no bit.
constexpr int64_t kAmxDepth = 512;

// Tiles 0–3: C by (row tile, panel); 4, 5: A; 6, 7: B.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {};
};

// The intrinsics do not say what memory they read: everything written before is made visible to them here.
static inline void publish(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

static void configure_rows(int64_t rows) {
  uint8_t first = rows < 16 ? rows : 16, second = rows > 16 ? rows - 16 : first;
  TileConfig config;
  config.rows[0] = config.rows[1] = config.rows[4] = first;
  config.rows[2] = config.rows[3] = config.rows[5] = second;
  config.rows[6] = config.rows[7] = 16;
  publish(&config);
  _tile_loadconfig(&config);
}

// A's last, incomplete columns, completed with zeros.
struct AmxTail {
  alignas(64) bf16 data[32 * kTileK];
};

static void copy_tail(const bf16* a, int64_t lda, int64_t rows, int64_t columns, AmxTail* tail) {
  __mmask32 mask = (1u << columns) - 1;
  for (int64_t r = 0; r < rows; r++)
    _mm512_store_si512(tail->data + r * kTileK, _mm512_maskz_loadu_epi16(mask, a + r * lda));
  publish(tail->data);
}

template <int RowTiles, int Panels>
static inline __attribute__((always_inline)) void multiply_step(const bf16* a, int64_t lda_bytes, const char* b,
                                                                int64_t panel_bytes) {
  _tile_loadd(6, b, 64);
  if constexpr (Panels == 2) _tile_loadd(7, b + panel_bytes, 64);
  _tile_loadd(4, a, lda_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (Panels == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (RowTiles == 2) {
    _tile_loadd(5, reinterpret_cast<const char*>(a) + 16 * lda_bytes, lda_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (Panels == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

// C of up to 32 rows × Panels·16 columns, whole columns.
template <int RowTiles, int Panels>
static void amx_tile(const bf16* a, int64_t lda, const bf16* tail, const char* b, int64_t panel_bytes, int64_t k,
                     float* c, int64_t ldc, bool accumulate) {
  int64_t ldc_bytes = ldc * 4;
  float* lower = c + 16 * ldc;
  if (accumulate) {
    _tile_loadd(0, c, ldc_bytes);
    if constexpr (Panels == 2) _tile_loadd(1, c + 16, ldc_bytes);
    if constexpr (RowTiles == 2) _tile_loadd(2, lower, ldc_bytes);
    if constexpr (RowTiles == 2 && Panels == 2) _tile_loadd(3, lower + 16, ldc_bytes);
  } else {
    _tile_zero(0);
    if constexpr (Panels == 2) _tile_zero(1);
    if constexpr (RowTiles == 2) _tile_zero(2);
    if constexpr (RowTiles == 2 && Panels == 2) _tile_zero(3);
  }
  int64_t i = 0;
  for (; i + kTileK <= k; i += kTileK) {
    multiply_step<RowTiles, Panels>(a + i, lda * 2, b, panel_bytes);
    b += kTileBytes;
  }
  if (i < k) multiply_step<RowTiles, Panels>(tail, kTileK * 2, b, panel_bytes);
  _tile_stored(0, c, ldc_bytes);
  if constexpr (Panels == 2) _tile_stored(1, c + 16, ldc_bytes);
  if constexpr (RowTiles == 2) _tile_stored(2, lower, ldc_bytes);
  if constexpr (RowTiles == 2 && Panels == 2) _tile_stored(3, lower + 16, ldc_bytes);
}

// Columns of C that end inside a panel go by way of a whole tile.
template <int RowTiles, int Panels>
static void amx_edge(const bf16* a, int64_t lda, const bf16* tail, const char* b, int64_t panel_bytes, int64_t k,
                     float* c, int64_t ldc, int64_t rows, int64_t columns, bool accumulate) {
  constexpr int64_t kColumns = Panels * kPanel;
  alignas(64) float whole[32 * kColumns];
  if (accumulate)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t v = 0; v < kColumns; v += 16)
        store(whole + r * kColumns + v, columns > v ? load_n(c + r * ldc + v, columns - v) : zero());
  publish(whole);
  amx_tile<RowTiles, Panels>(a, lda, tail, b, panel_bytes, k, whole, kColumns, accumulate);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t v = 0; v < columns; v += 16) store_n(c + r * ldc + v, load(whole + r * kColumns + v), columns - v);
}

// All columns for a row block of `rows` ≤ 32 rows, whose shape the tiles have been configured for.
struct AmxRows {
  const bf16* a;
  const bf16* tail;
  float* c;
  int64_t rows;
};

template <int RowTiles, int Panels>
static inline void amx_block(const AmxRows& block, int64_t lda, const char* b, int64_t panel_bytes, int64_t k,
                             int64_t ldc, int64_t column, int64_t columns, bool accumulate) {
  float* c = block.c + column;
  if (columns >= Panels * kPanel)
    amx_tile<RowTiles, Panels>(block.a, lda, block.tail, b, panel_bytes, k, c, ldc, accumulate);
  else
    amx_edge<RowTiles, Panels>(block.a, lda, block.tail, b, panel_bytes, k, c, ldc, block.rows, columns, accumulate);
}

// One row block against every panel: its rows of A stay in L1, B streams by from L2. (Measured on 64 × 256 × 256: 74 %
// of the peak, against 59 % with B kept and A, which lies in strides, streaming; software prefetch of either loses.)
static void amx_row_block(const AmxRows& block, int64_t lda, const char* b, int64_t panel_bytes, int64_t n, int64_t k,
                          int64_t ldc, bool accumulate) {
  for (int64_t column = 0; column < n; column += 2 * kPanel) {
    const char* panel = b + column / kPanel * panel_bytes;
    int64_t columns = n - column;
    bool tall = block.rows > 16, wide = columns > kPanel;
    if (tall && wide) amx_block<2, 2>(block, lda, panel, panel_bytes, k, ldc, column, columns, accumulate);
    if (tall && !wide) amx_block<2, 1>(block, lda, panel, panel_bytes, k, ldc, column, columns, accumulate);
    if (!tall && wide) amx_block<1, 2>(block, lda, panel, panel_bytes, k, ldc, column, columns, accumulate);
    if (!tall && !wide) amx_block<1, 1>(block, lda, panel, panel_bytes, k, ldc, column, columns, accumulate);
  }
}

// Rows [0, m) in row blocks of one height: 32, or m itself.
static void amx_rows(const bf16* a, int64_t lda, const char* b, int64_t panel_bytes, int64_t m, int64_t n, int64_t k,
                     float* c, int64_t ldc, bool accumulate) {
  int64_t height = m < 32 ? m : 32, whole_k = k / kTileK * kTileK;
  AmxTail tail;
  configure_rows(height);
  for (int64_t row = 0; row < m; row += height) {
    AmxRows block = {a + row * lda, tail.data, c + row * ldc, height};
    if (whole_k < k) copy_tail(block.a + whole_k, lda, height, k - whole_k, &tail);
    amx_row_block(block, lda, b, panel_bytes, n, k, ldc, accumulate);
  }
}

// Blocks of k of equal size, of at most kAmxDepth.
static int64_t block_depth(int64_t k) {
  int64_t blocks = (k + kAmxDepth - 1) / kAmxDepth;
  return blocks > 1 ? ((k + blocks - 1) / blocks + kTileK - 1) / kTileK * kTileK : k;
}

static void amx_gemm(const bf16* a, int64_t lda, const void* packed, int64_t panel_bytes, int64_t m, int64_t n,
                     int64_t k, float* c, int64_t ldc, bool accumulate) {
  int64_t even = m / 32 * 32, longest = block_depth(k), k0 = 0;
  do {
    int64_t depth = k - k0 < longest ? k - k0 : longest;
    const char* b = static_cast<const char*>(packed) + k0 / kTileK * kTileBytes;
    bool onto = accumulate || k0 > 0;
    if (even > 0) amx_rows(a + k0, lda, b, panel_bytes, even, n, depth, c, ldc, onto);
    if (even < m) amx_rows(a + even * lda + k0, lda, b, panel_bytes, m - even, n, depth, c + even * ldc, ldc, onto);
    k0 += depth;
  } while (k0 < k);
  _tile_release();
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
#endif
