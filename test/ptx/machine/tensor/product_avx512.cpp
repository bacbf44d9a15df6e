// The product with 16 lanes a vector. Functions carry their own target: the machine decides at run time.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12's own _mm512_undefined_ps (bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "product.h"

namespace foretoken::machine {
namespace {

#define AVX512 __attribute__((target("avx512f,avx512bw")))

// NaNs become 0x7fffffff: which of several NaN operands x86 hands on depends on their order.
AVX512 inline __m512 canonical(__m512 x) {
  __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
  return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), nan);
}

AVX512 void multiply(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators) {
  for (int tile = 0; tile < tiles; ++tile) {
    float* const* d = accumulators + 4 * tile;
    __m512 sums[4][2];  // [register][half of the lanes]
    for (int q = 0; q < 4; ++q)
      for (int half = 0; half < 2; ++half) sums[q][half] = _mm512_loadu_ps(d[q] + 16 * half);
    for (int k = 0; k < depth; ++k) {
      __m512 even = _mm512_broadcast_f32x4(_mm_load_ps(b[tile][k]));
      __m512 odd = _mm512_broadcast_f32x4(_mm_load_ps(b[tile][k] + 4));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        __m512 rows = _mm512_load_ps(a.values[k] + 16 * i);
        sums[i & 2][i & 1] = _mm512_fmadd_ps(rows, even, sums[i & 2][i & 1]);
        sums[(i & 2) + 1][i & 1] = _mm512_fmadd_ps(rows, odd, sums[(i & 2) + 1][i & 1]);
      }
    }
    for (int q = 0; q < 4; ++q)
      for (int half = 0; half < 2; ++half) _mm512_storeu_ps(d[q] + 16 * half, canonical(sums[q][half]));
  }
}

// Sixteen accumulators and eight products each, as add_aligned of product.cpp.
AVX512 inline __m512 add_aligned(__m512 sum, const __m512* products, int count) {
  __m512 greatest = _mm512_abs_ps(sum), plain = sum;
  for (int i = 0; i < count; ++i) {
    greatest = _mm512_max_ps(greatest, _mm512_abs_ps(products[i]));
    plain = _mm512_add_ps(plain, products[i]);
  }
  __m512 exponent = _mm512_max_ps(_mm512_getexp_ps(greatest), _mm512_set1_ps(-126));
  __m512 places = _mm512_sub_ps(_mm512_set1_ps(kAlignedBits), exponent);
  __m512i units = _mm512_cvttps_epi32(_mm512_scalef_ps(sum, places));
  for (int i = 0; i < count; ++i)
    units = _mm512_add_epi32(units, _mm512_cvttps_epi32(_mm512_scalef_ps(products[i], places)));
  constexpr int kTowardsZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  __m512 cut = _mm512_cvt_roundepi32_ps(units, kTowardsZero);
  cut = _mm512_scalef_round_ps(cut, _mm512_sub_ps(exponent, _mm512_set1_ps(kAlignedBits)), kTowardsZero);
  __mmask16 finite = _mm512_cmp_ps_mask(_mm512_sub_ps(plain, plain), _mm512_setzero_ps(), _CMP_EQ_OQ);
  return _mm512_mask_mov_ps(plain, finite, cut);
}

AVX512 void multiply_aligned_vectors(const SpreadA& a, const SpreadTile* b, int depth, int tiles,
                                     float* const* accumulators) {
  for (int tile = 0; tile < tiles; ++tile)
    for (int q = 0; q < 4; ++q)
      for (int half = 0; half < 2; ++half) {
        float* lanes = accumulators[4 * tile + q] + 16 * half;
        __m512 sum = _mm512_loadu_ps(lanes);
        for (int first = 0; first < depth; first += kAlignedProducts) {
          __m512 products[kAlignedProducts];
          int count = depth - first < kAlignedProducts ? depth - first : kAlignedProducts;
          for (int i = 0; i < count; ++i)
            products[i] = _mm512_mul_ps(_mm512_load_ps(a.values[first + i] + 32 * (q / 2) + 16 * half),
                                        _mm512_broadcast_f32x4(_mm_load_ps(b[tile][first + i] + 4 * (q % 2))));
          sum = add_aligned(sum, products, count);
        }
        _mm512_storeu_ps(lanes, canonical(sum));
      }
}

// The elements h of 16 registers, widened.
AVX512 inline __m512 widen(Element element, __m512i words, int h) {
  if (element == Element::kTf32) return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(~0x1fff)));
  __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  if (element == Element::kBf16)
    return _mm512_castsi512_ps(h ? _mm512_and_si512(words, high) : _mm512_slli_epi32(words, 16));
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(h ? _mm512_srli_epi32(words, 16) : words));
}

// A row's four lanes hold four k: each is repeated over the row's four lanes.
AVX512 void spread_fragment_a(Element element, int depth, const uint32_t* const* registers, SpreadA& a) {
  int packed = 4 / element_bytes(element);
  for (int r = 0; r < 2 * depth / (4 * packed); ++r)
    for (int half = 0; half < 2; ++half) {
      __m512i words = _mm512_loadu_si512(registers[r] + 16 * half);
      for (int h = 0; h < packed; ++h) {
        __m512 rows = widen(element, words, h);
        float* out = a.values[4 * packed * (r / 2) + h] + 32 * (r % 2) + 16 * half;
        int next_k = packed * 4 * kProductRows;
        _mm512_store_ps(out, _mm512_permute_ps(rows, 0x00));
        _mm512_store_ps(out + next_k, _mm512_permute_ps(rows, 0x55));
        _mm512_store_ps(out + 2 * next_k, _mm512_permute_ps(rows, 0xaa));
        _mm512_store_ps(out + 3 * next_k, _mm512_permute_ps(rows, 0xff));
      }
    }
}

// Lane 4n + t holds column n and the t-th k: two k, eight columns each, are gathered at a time.
AVX512 void spread_fragment_b(Element element, int depth, const uint32_t* const* registers, SpreadTile& b) {
  int packed = 4 / element_bytes(element);
  const __m512i two_k = _mm512_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28, 1, 9, 17, 25, 5, 13, 21, 29);
  for (int r = 0; r < depth / (4 * packed); ++r) {
    __m512i low = _mm512_loadu_si512(registers[r]), high = _mm512_loadu_si512(registers[r] + 16);
    for (int h = 0; h < packed; ++h) {
      __m512 first = widen(element, low, h), second = widen(element, high, h);
      for (int t = 0; t < 4; t += 2) {
        __m512i index = _mm512_add_epi32(two_k, _mm512_set1_epi32(t));
        __m512 columns = _mm512_permutex2var_ps(first, index, second);
        int k = packed * (4 * r + t) + h;
        _mm256_store_ps(b[k], _mm512_castps512_ps256(columns));
        _mm256_store_ps(b[k + packed], _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(columns), 1)));
      }
    }
  }
}

// Sixteen halves that follow each other, widened.
AVX512 inline __m512 widen_halves(Element element, __m256i halves) {
  if (element == Element::kF16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// A column's 32 bytes, widened: 16 k, or 8 of tf32 in the lower half.
AVX512 inline __m512 widen_column(Element element, const uint8_t* const (&chunks)[2]) {
  __m256i bytes =
      _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(chunks[1]), reinterpret_cast<const __m128i*>(chunks[0]));
  if (element == Element::kTf32) return widen(element, _mm512_castsi256_si512(bytes), 0);
  return widen_halves(element, bytes);
}

struct Quads {
  __m512 k[4];  // [i] lanes 4g … 4g + 3: element 4g + i of four columns
};
AVX512 inline Quads transpose(__m512 x0, __m512 x1, __m512 x2, __m512 x3) {
  __m512 low01 = _mm512_unpacklo_ps(x0, x1), low23 = _mm512_unpacklo_ps(x2, x3);
  __m512 high01 = _mm512_unpackhi_ps(x0, x1), high23 = _mm512_unpackhi_ps(x2, x3);
  return {{_mm512_shuffle_ps(low01, low23, 0x44), _mm512_shuffle_ps(low01, low23, 0xee),
           _mm512_shuffle_ps(high01, high23, 0x44), _mm512_shuffle_ps(high01, high23, 0xee)}};
}

AVX512 void spread_columns(Element element, const uint8_t* const (*chunks)[2], SpreadTile& b) {
  __m512 columns[kTileColumns];
  for (int i = 0; i < kTileColumns; ++i) columns[i] = widen_column(element, chunks[i]);
  Quads even = transpose(columns[0], columns[2], columns[4], columns[6]);
  Quads odd = transpose(columns[1], columns[3], columns[5], columns[7]);
  const __m512i first_k = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i last_k = _mm512_add_epi32(first_k, _mm512_set1_epi32(8));
  for (int i = 0; i < 4; ++i) {
    __m512 first = _mm512_permutex2var_ps(even.k[i], first_k, odd.k[i]);
    _mm256_store_ps(b[i], _mm512_castps512_ps256(first));
    _mm256_store_ps(b[4 + i], _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(first), 1)));
    if (element == Element::kTf32) continue;
    __m512 last = _mm512_permutex2var_ps(even.k[i], last_k, odd.k[i]);
    _mm256_store_ps(b[8 + i], _mm512_castps512_ps256(last));
    _mm256_store_ps(b[12 + i], _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(last), 1)));
  }
}

// Four rows' values of one k, out of lanes 4g … 4g + 3, four times each.
AVX512 void store_four_rows(__m512 quads, int g, float* rows) {
  const __m512i copies = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  _mm512_store_ps(rows, _mm512_permutexvar_ps(_mm512_add_epi32(copies, _mm512_set1_epi32(4 * g)), quads));
}

AVX512 void spread_rows(Element element, const uint8_t* const (*chunks)[2], SpreadA& a) {
  const int groups = element == Element::kTf32 ? 2 : 4;  // of four k
  for (int row = 0; row < kProductRows; row += 4) {
    Quads quads = transpose(widen_column(element, chunks[row]), widen_column(element, chunks[row + 1]),
                            widen_column(element, chunks[row + 2]), widen_column(element, chunks[row + 3]));
    for (int g = 0; g < groups; ++g)
      for (int i = 0; i < 4; ++i) store_four_rows(quads.k[i], g, a.values[4 * g + i] + 4 * row);
  }
}

// Two tiles at a time.
AVX512 void spread_line_b(Element element, const uint8_t* const* chunks, int tiles, int k, SpreadTile* b) {
  const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  for (int tile = 0; tile < tiles; tile += 2) {
    const bool both = tile + 1 < tiles;
    __m256i halves = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(chunks[both ? tile + 1 : tile]),
                                         reinterpret_cast<const __m128i*>(chunks[tile]));
    __m512 columns = _mm512_permutexvar_ps(order, widen_halves(element, halves));
    _mm256_store_ps(b[tile][k], _mm512_castps512_ps256(columns));
    if (both) _mm256_store_ps(b[tile + 1][k], _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(columns), 1)));
  }
}

AVX512 void spread_line_a(Element element, const uint8_t* const* chunks, int k, SpreadA& a) {
  __m256i halves =
      _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(chunks[1]), reinterpret_cast<const __m128i*>(chunks[0]));
  __m512 rows = widen_halves(element, halves);
  for (int g = 0; g < 4; ++g) store_four_rows(rows, g, a.values[k] + 16 * g);
}

}  // namespace

const ProductFunctions kAvx512Product = {.spread_a = spread_fragment_a,
                                         .spread_b = spread_fragment_b,
                                         .spread_columns = spread_columns,
                                         .spread_rows = spread_rows,
                                         .spread_line_b = spread_line_b,
                                         .spread_line_a = spread_line_a,
                                         .multiply = multiply,
                                         .multiply_aligned = multiply_aligned_vectors};

}  // namespace foretoken::machine
#endif
