// The vector types of a SIMD level: `Vec` is kWidth floats. Everything is static: see level.h.
// Storage is float or bf16, arithmetic is always float. Tails go through load_n/store_n.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12's own _mm512_undefined_ps (bug 105593)
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "../core/bf16.h"
#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr float kLeastExponent = -87.3365402f;    // eˣ is the least normal float
constexpr float kGreatestExponent = 88.7228394f;  // eˣ is the greatest float

#if defined(__AVX512F__)

using Vec = __m512;
constexpr int kWidth = 16;

static inline __mmask16 tail_mask(int64_t n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }
static inline Vec zero() { return _mm512_setzero_ps(); }
static inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
static inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
static inline Vec load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(tail_mask(n), p); }
static inline Vec widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
static inline Vec load(const bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
static inline Vec load_n(const bf16* p, int64_t n) {
  return widen(_mm512_castsi512_si256(_mm512_maskz_loadu_epi16(tail_mask(n), p)));
}
static inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
static inline void store_n(float* p, Vec x, int64_t n) { _mm512_mask_storeu_ps(p, tail_mask(n), x); }
static inline __m256i narrow(Vec x) {
  __m512i bits = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(rounded);
}
static inline void store(bf16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x)); }
static inline void store_n(bf16* p, Vec x, int64_t n) {
  _mm512_mask_storeu_epi16(p, tail_mask(n), _mm512_castsi256_si512(narrow(x)));
}
static inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }  // a·b + c
static inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
static inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
static inline Vec sqrt(Vec a) { return _mm512_sqrt_ps(a); }
static inline Vec round(Vec a) { return _mm512_roundscale_ps(a, 8); }
// p·2ⁿ, the last step of exp: 0 where x is below −87.33, inf where the product overflows.
static inline Vec finish_exp(Vec x, Vec p, Vec n) {
  __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kLeastExponent), _CMP_NLT_UQ);  // NaN is kept
  return _mm512_maskz_scalef_ps(kept, p, n);
}
// The first n lanes of a, the rest from b.
static inline Vec select_n(Vec a, Vec b, int64_t n) { return _mm512_mask_blend_ps(tail_mask(n), b, a); }

// kWidth sums in double.
struct DoubleSums {
  __m512d low, high;
};
static inline DoubleSums zero_doubles() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
static inline DoubleSums add_squares(DoubleSums sums, Vec x) {
  __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
  return {_mm512_fmadd_pd(low, low, sums.low), _mm512_fmadd_pd(high, high, sums.high)};
}
static inline void store(double* p, DoubleSums sums) {
  _mm512_storeu_pd(p, sums.low);
  _mm512_storeu_pd(p + 8, sums.high);
}

#else

using Vec = __m256;
constexpr int kWidth = 8;

static inline __m256i tail_mask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= 8 ? 8 : static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline Vec zero() { return _mm256_setzero_ps(); }
static inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
static inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
static inline Vec load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, tail_mask(n)); }
static inline Vec widen(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
static inline Vec load(const bf16* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
static inline Vec load_n(const bf16* p, int64_t n) {
  if (n >= 8) return load(p);
  alignas(16) uint16_t lanes[8] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i].bits;
  return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(lanes)));
}
static inline void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
static inline void store_n(float* p, Vec x, int64_t n) { _mm256_maskstore_ps(p, tail_mask(n), x); }
static inline __m128i narrow(Vec x) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  rounded = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
static inline void store(bf16* p, Vec x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x)); }
static inline void store_n(bf16* p, Vec x, int64_t n) {
  if (n >= 8) return store(p, x);
  alignas(16) uint16_t lanes[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow(x));
  for (int64_t i = 0; i < n; i++) p[i].bits = lanes[i];
}
static inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }  // a·b + c
static inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
static inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
static inline Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
static inline Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline Vec finish_exp(Vec x, Vec p, Vec n) {
  // n goes straight onto the exponent bits: 2ⁿ itself would overflow before p·2ⁿ does.
  __m256i bits = _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
  __m256 infinite = _mm256_cmp_ps(x, _mm256_set1_ps(kGreatestExponent), _CMP_GT_OQ);
  __m256 kept = _mm256_cmp_ps(x, _mm256_set1_ps(kLeastExponent), _CMP_NLT_UQ);
  __m256 y = _mm256_blendv_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(__builtin_inff()), infinite);
  return _mm256_and_ps(y, kept);
}
static inline Vec select_n(Vec a, Vec b, int64_t n) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(tail_mask(n)));
}

struct DoubleSums {
  __m256d low, high;
};
static inline DoubleSums zero_doubles() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
static inline DoubleSums add_squares(DoubleSums sums, Vec x) {
  __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
  return {_mm256_fmadd_pd(low, low, sums.low), _mm256_fmadd_pd(high, high, sums.high)};
}
static inline void store(double* p, DoubleSums sums) {
  _mm256_storeu_pd(p, sums.low);
  _mm256_storeu_pd(p + 4, sums.high);
}

#endif

// Sum and maximum of the lanes, in one fixed order.
static inline float reduce_add(Vec x) {
  float lanes[kWidth];
  store(lanes, x);
  for (int half = kWidth / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}
static inline double reduce_add(DoubleSums x) {
  double lanes[kWidth];
  store(lanes, x);
  for (int half = kWidth / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}
static inline float reduce_max(Vec x) {
  float lanes[kWidth];
  store(lanes, x);
  float best = lanes[0];
  for (int i = 1; i < kWidth; i++) best = lanes[i] > best ? lanes[i] : best;
  return best;
}

// eˣ to 1 ulp between −87.33 and 88.72; below it is 0, above it is inf, NaN stays NaN.
static inline Vec exp(Vec x) {
  Vec clamped = min(broadcast(88.8f), x);  // x second: min returns it when it is NaN
  Vec n = round(mul(clamped, broadcast(1.44269504f)));
  Vec r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), broadcast(1.0f));
  return finish_exp(x, p, n);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
