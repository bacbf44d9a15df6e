// Products on vector registers: an R × P·kPanel tile of C lives in registers while k runs over it.
// A `Product` says what one step of k multiplies; everything else is shared.
#pragma once
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int kVectors = kPanel / kWidth;              // per panel
constexpr int kAccumulators = kWidth == 16 ? 24 : 12;  // of 32 or 16 registers; the rest hold a step's B and A
constexpr int kTileRows = kWidth == 16 ? 12 : 6;       // with 2 × 16 or 2 × 8 columns
constexpr int kChunkRows = 48;                         // rows that share a B panel while it is in L1
constexpr int64_t kStepBytes = 4 * kPanel;             // of a panel, per step, whichever the Product
// How far ahead a panel is fetched: for 8 rows × 256 × 32,000 from memory, avx512 f32 went from 24 to 28 of 29.5 GB/s.
constexpr int64_t kPrefetchBytes = 2048;

// f32: one k a step.
struct FloatProduct {
  using Stored = float;  // A in memory
  using A = float;       // A as a step reads it
  static constexpr int kStep = 1, kScratch = 1;
  static int64_t block_depth(int64_t left) { return left < 256 ? left : 256; }
  static const float* operand(const float* a, int64_t&, int64_t, int64_t, float*) { return a; }
  template <int R, int V>
  static inline __attribute__((always_inline)) void step(Vec (&c)[R][V], const float* a, int64_t lda, const char* b,
                                                         int64_t panel_bytes) {
    Vec columns[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++)
      columns[v] = load(reinterpret_cast<const float*>(b + v / kVectors * panel_bytes) + v % kVectors * kWidth);
    multiply(c, columns, a, lda);
  }
  template <int R, int V>
  static inline __attribute__((always_inline)) void multiply(Vec (&c)[R][V], const Vec (&columns)[V], const float* a,
                                                             int64_t lda) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      Vec row = broadcast(a[r * lda]);
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) c[r][v] = fma(row, columns[v], c[r][v]);
    }
  }
};

#if !defined(__AVX512BF16__)
// bf16 without an instruction for it: A comes widened to f32, B's pairs are widened here; the even k first.
struct WidenedProduct {
  using Stored = bf16;
  using A = float;
  static constexpr int kStep = 2, kDepth = 256, kScratch = kChunkRows * kDepth;
  static int64_t block_depth(int64_t left) { return left < kDepth ? left : kDepth; }
  static const float* operand(const bf16* a, int64_t& lda, int64_t rows, int64_t depth, float* scratch) {
    for (int64_t r = 0; r < rows; r++) {
      float* to = scratch + r * kDepth;
      int64_t i = 0;
      for (; i + kWidth <= depth; i += kWidth) store(to + i, load(a + r * lda + i));
      if (i < depth) store(to + i, load_n(a + r * lda + i, depth - i));  // zeros up to the even k
    }
    lda = kDepth;
    return scratch;
  }
  template <int R, int V>
  static inline __attribute__((always_inline)) void step(Vec (&c)[R][V], const float* a, int64_t lda, const char* b,
                                                         int64_t panel_bytes) {
    Vec columns[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) columns[v] = even(b + v / kVectors * panel_bytes + v % kVectors * 4 * kWidth);
    FloatProduct::multiply(c, columns, a, lda);
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) columns[v] = odd(b + v / kVectors * panel_bytes + v % kVectors * 4 * kWidth);
    FloatProduct::multiply(c, columns, a + 1, lda);
  }
#if defined(__AVX512F__)
  static inline Vec even(const char* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
  static inline Vec odd(const char* p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(~0xffff)));
  }
#else
  static inline __m256i pairs(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static inline Vec even(const char* p) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs(p), 16)); }
  static inline Vec odd(const char* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs(p), _mm256_set1_epi32(~0xffff)));
  }
#endif
};
#endif

#if defined(__AVX512BF16__)
// vdpbf16ps: a pair of k a step, A's pairs broadcast from where they lie.
struct PairProduct {
  using Stored = bf16;
  using A = bf16;
  static constexpr int kStep = 2, kScratch = 2 * kChunkRows;
  // An odd last k is a block of its own, so that no pair reaches beyond a row.
  static int64_t block_depth(int64_t left) { return left >= 512 ? 512 : left > 1 ? left & ~1 : left; }
  static const bf16* operand(const bf16* a, int64_t& lda, int64_t rows, int64_t depth, bf16* scratch) {
    if (depth != 1) return a;
    for (int64_t r = 0; r < rows; r++) {
      scratch[2 * r] = a[r * lda];
      scratch[2 * r + 1] = {0};
    }
    lda = 2;
    return scratch;
  }
  template <int R, int V>
  static inline __attribute__((always_inline)) void step(Vec (&c)[R][V], const bf16* a, int64_t lda, const char* b,
                                                         int64_t panel_bytes) {
    __m512bh columns[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) columns[v] = (__m512bh)_mm512_loadu_si512(b + v * panel_bytes);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      int pair;
      __builtin_memcpy(&pair, a + r * lda, sizeof pair);
      __m512bh row = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) c[r][v] = _mm512_dpbf16_ps(c[r][v], row, columns[v]);
    }
  }
};
#endif

// Where one tile lies: a, c at its corner, b at its first panel and step; `columns` of C may end inside the tile.
struct TilePlace {
  int64_t lda, ldc, panel_bytes, columns;
  bool accumulate;
};

// Runs `steps` steps of one tile. A Product of pairs needs 2·steps elements of each row of a.
template <class Product, int R, int P>
static void run_tile(const typename Product::A* a, const char* b, float* c, int64_t steps, const TilePlace& place) {
  constexpr int V = P * kVectors;
  Vec sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      int64_t left = place.columns - v * kWidth;
      const float* from = c + r * place.ldc + v * kWidth;
      sum[r][v] = !place.accumulate || left <= 0 ? zero() : left >= kWidth ? load(from) : load_n(from, left);
    }
  for (int64_t i = 0; i < steps; i++, b += kStepBytes) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) __builtin_prefetch(b + p * place.panel_bytes + kPrefetchBytes);
    Product::step(sum, a + i * Product::kStep, place.lda, b, place.panel_bytes);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      int64_t left = place.columns - v * kWidth;
      float* to = c + r * place.ldc + v * kWidth;
      if (left >= kWidth)
        store(to, sum[r][v]);
      else if (left > 0)
        store_n(to, sum[r][v], left);
    }
}

template <class Product>
using Tile = void (*)(const typename Product::A*, const char*, float*, int64_t, const TilePlace&);

template <class Product, int P, int R = kTileRows>
static Tile<Product> tile_of(int64_t rows) {
  if constexpr (R == 0) {
    return nullptr;
  } else {
    if constexpr (R * P * kVectors <= kAccumulators)
      if (rows == R) return run_tile<Product, R, P>;
    return tile_of<Product, P, R - 1>(rows);
  }
}

// The tile of this many rows and panels (1, 2 or 4); nullptr where it does not fit the registers.
template <class Product>
static Tile<Product> tile_for(int64_t rows, int64_t panels) {
  return panels == 4 ? tile_of<Product, 4>(rows) : panels == 2 ? tile_of<Product, 2>(rows) : tile_of<Product, 1>(rows);
}

// One block of k for up to kChunkRows rows: every panel (pair, …) stays in L1 while all the rows pass it.
template <class Product>
static void run_chunk(const typename Product::A* a, const char* b, float* c, int64_t rows, int64_t steps,
                      TilePlace place) {
  int64_t blocks = (rows + kTileRows - 1) / kTileRows, height = rows / blocks, taller = rows % blocks;
  int64_t n = place.columns, tallest = height + (taller > 0);
  for (int64_t column = 0, panels = 4; column < n; column += panels * kPanel) {
    while (panels > 1 && ((panels - 1) * kPanel >= n - column || !tile_for<Product>(tallest, panels))) panels /= 2;
    place.columns = n - column;
    const char* panel = b + column / kPanel * place.panel_bytes;
    for (int64_t block = 0, row = 0; block < blocks; block++) {
      int64_t tile_rows = height + (block < taller);
      tile_for<Product>(tile_rows, panels)(a + row * place.lda, panel, c + row * place.ldc + column, steps, place);
      row += tile_rows;
    }
  }
}

// C (+)= A·B for `a` of the Product's dtype. Blocks of k end with C stored and go on from it: the same chain.
template <class Product>
static void vector_gemm(const typename Product::Stored* a, int64_t lda, const void* packed, int64_t panel_bytes,
                        int64_t m, int64_t n, int64_t k, float* c, int64_t ldc, bool accumulate) {
  alignas(64) typename Product::A scratch[Product::kScratch];
  int64_t k0 = 0;
  do {
    int64_t depth = Product::block_depth(k - k0);
    int64_t steps = (depth + Product::kStep - 1) / Product::kStep;
    const char* b = static_cast<const char*>(packed) + k0 / Product::kStep * kStepBytes;
    for (int64_t row = 0; row < m; row += kChunkRows) {
      int64_t rows = m - row < kChunkRows ? m - row : kChunkRows;
      TilePlace place = {lda, ldc, panel_bytes, n, accumulate || k0 > 0};
      const auto* block = Product::operand(a + row * lda + k0, place.lda, rows, depth, scratch);
      run_chunk<Product>(block, b, c + row * ldc, rows, steps, place);
    }
    k0 += depth;
  } while (k0 < k);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
