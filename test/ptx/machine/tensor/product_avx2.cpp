// The product with 8 lanes a vector. Functions carry their own target: the machine decides at run time.
#if defined(__x86_64__)
#include <immintrin.h>

#include "product.h"

namespace foretoken::machine {
namespace {

#define AVX2 __attribute__((target("avx2,fma,f16c")))

// NaNs become 0x7fffffff: which of several NaN operands x86 hands on depends on their order.
AVX2 inline __m256 canonical(__m256 x) {
  __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

// Eight rows of a tile: `a` is its rows' half of SpreadA::values[0], `even` and `odd` its two accumulators.
AVX2 void multiply_half_tile(const float* a, const SpreadTile& b, int depth, float* even, float* odd) {
  __m256 sums[2][4];
  for (int i = 0; i < 4; ++i) {
    sums[0][i] = _mm256_loadu_ps(even + 8 * i);
    sums[1][i] = _mm256_loadu_ps(odd + 8 * i);
  }
  for (int k = 0; k < depth; ++k) {
    __m256 b_even = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(b[k]));
    __m256 b_odd = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(b[k] + 4));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m256 rows = _mm256_load_ps(a + 4 * kProductRows * k + 8 * i);
      sums[0][i] = _mm256_fmadd_ps(rows, b_even, sums[0][i]);
      sums[1][i] = _mm256_fmadd_ps(rows, b_odd, sums[1][i]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(even + 8 * i, canonical(sums[0][i]));
    _mm256_storeu_ps(odd + 8 * i, canonical(sums[1][i]));
  }
}

AVX2 void multiply(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators) {
  for (int tile = 0; tile < tiles; ++tile)
    for (int half = 0; half < 2; ++half)
      multiply_half_tile(a.values[0] + 32 * half, b[tile], depth, accumulators[4 * tile + 2 * half],
                         accumulators[4 * tile + 2 * half + 1]);
}

// The elements h of 8 registers, widened.
AVX2 inline __m256 widen(Element element, __m256i words, int h) {
  if (element == Element::kTf32) return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(~0x1fff)));
  if (element == Element::kBf16)
    return _mm256_castsi256_ps(h ? _mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))
                                 : _mm256_slli_epi32(words, 16));
  __m256i halves = h ? _mm256_srli_epi32(words, 16) : _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
  __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

// A row's four lanes hold four k: each is repeated over the row's four lanes.
AVX2 void spread_fragment_a(Element element, int depth, const uint32_t* const* registers, SpreadA& a) {
  int packed = 4 / element_bytes(element);
  for (int r = 0; r < 2 * depth / (4 * packed); ++r)
    for (int lane = 0; lane < kWarpLanes; lane += 8) {
      __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(registers[r] + lane));
      for (int h = 0; h < packed; ++h) {
        __m256 rows = widen(element, words, h);
        float* out = a.values[4 * packed * (r / 2) + h] + 32 * (r % 2) + lane;
        int next_k = packed * 4 * kProductRows;
        _mm256_store_ps(out, _mm256_permute_ps(rows, 0x00));
        _mm256_store_ps(out + next_k, _mm256_permute_ps(rows, 0x55));
        _mm256_store_ps(out + 2 * next_k, _mm256_permute_ps(rows, 0xaa));
        _mm256_store_ps(out + 3 * next_k, _mm256_permute_ps(rows, 0xff));
      }
    }
}

// Lane 4n + t holds column n and the t-th k: the columns in order of a tile, for one k after the other.
AVX2 void spread_fragment_b(Element element, int depth, const uint32_t* const* registers, SpreadTile& b) {
  int packed = 4 / element_bytes(element);
  const __m256i columns = _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28);
  for (int r = 0; r < depth / (4 * packed); ++r)
    for (int t = 0; t < 4; ++t) {
      const int* first = reinterpret_cast<const int*>(registers[r]) + t;
      __m256i words = _mm256_i32gather_epi32(first, columns, 4);
      for (int h = 0; h < packed; ++h) _mm256_store_ps(b[packed * (4 * r + t) + h], widen(element, words, h));
    }
}

// A chunk of a column, widened: 8 k, or 4 of tf32 in the lower half.
AVX2 inline __m256 widen_chunk(Element element, const uint8_t* chunk) {
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(chunk));
  if (element == Element::kTf32) return widen(element, _mm256_castsi128_si256(bytes), 0);
  if (element == Element::kF16) return _mm256_cvtph_ps(bytes);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes), 16));
}

AVX2 void spread_columns(Element element, const uint8_t* const (*chunks)[2], SpreadTile& b) {
  int packed = 16 / element_bytes(element);
  for (int chunk = 0; chunk < 2; ++chunk)
    for (int column = 0; column < kTileColumns; ++column) {
      alignas(32) float values[8];
      _mm256_store_ps(values, widen_chunk(element, chunks[column][chunk]));
      for (int i = 0; i < packed; ++i) b[chunk * packed + i][spread_column(column)] = values[i];
    }
}

// The operands of wgmma in memory, which it shares among four warps: the plain loops serve.
void spread_rows(Element element, const uint8_t* const (*chunks)[2], SpreadA& a) {
  kPlainProduct.spread_rows(element, chunks, a);
}
void spread_line_b(Element element, const uint8_t* const* chunks, int tiles, int k, SpreadTile* b) {
  kPlainProduct.spread_line_b(element, chunks, tiles, k, b);
}
void spread_line_a(Element element, const uint8_t* const* chunks, int k, SpreadA& a) {
  kPlainProduct.spread_line_a(element, chunks, k, a);
}

}  // namespace

const ProductFunctions kAvx2Product = {.spread_a = spread_fragment_a,
                                       .spread_b = spread_fragment_b,
                                       .spread_columns = spread_columns,
                                       .spread_rows = spread_rows,
                                       .spread_line_b = spread_line_b,
                                       .spread_line_a = spread_line_a,
                                       .multiply = multiply,
                                       .multiply_aligned = multiply_aligned};

}  // namespace foretoken::machine
#endif
