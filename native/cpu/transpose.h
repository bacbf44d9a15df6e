// Moving elements for the product engine: 16 × 16 words of 4 bytes across, and bf16 rows interleaved in pairs.
#pragma once
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

// A block of `rows` ≤ 16 byte strings of `bytes` ≤ 64, `stride` bytes apart.
struct Block {
  char* data;
  int64_t stride, rows, bytes;
};

#if defined(__AVX512F__)

static inline __mmask64 byte_mask(int64_t bytes) { return bytes >= 64 ? ~0ull : (1ull << bytes) - 1; }

// to[j][i] = from[i][j] in words; what lies outside `from` counts as zero, nothing outside `to` is written.
static void transpose_words(const Block& from, const Block& to) {
  __m512i x[16], y[16];
  __mmask64 mask = byte_mask(from.bytes);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++)
    x[i] = i < from.rows ? _mm512_maskz_loadu_epi8(mask, from.data + i * from.stride) : _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // x[4g + j], 128-bit lane l: words 4g … 4g+3 of column 4l + j. What remains is a 4 × 4 transposition of lanes.
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    __m512i a = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x44), b = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xee);
    __m512i c = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x44), d = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xee);
    y[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    y[4 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    y[8 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    y[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  mask = byte_mask(to.bytes);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++)
    if (i < to.rows) _mm512_mask_storeu_epi8(to.data + i * to.stride, mask, y[i]);
}

// out[i] = even[i] in the lower, odd[i] in the upper half, for 16 words, of which `count` are given; nullptr: zeros.
static inline void interleave(const bf16* even, const bf16* odd, int64_t count, void* out) {
  __mmask16 mask = tail_mask(count);
  __m512i low = even ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even)) : _mm512_setzero_si512();
  __m512i high = odd ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd)) : _mm512_setzero_si512();
  _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#else

// to[8 × 8 words] = fromᵀ, strides in words.
static inline void transpose_8x8(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  __m256 x[8], y[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) x[i] = load(reinterpret_cast<const float*>(from + i * from_stride));
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    store(reinterpret_cast<float*>(to + i * to_stride), _mm256_permute2f128_ps(x[i], x[4 + i], 0x20));
    store(reinterpret_cast<float*>(to + (4 + i) * to_stride), _mm256_permute2f128_ps(x[i], x[4 + i], 0x31));
  }
}

static void transpose_words(const Block& from, const Block& to) {
  alignas(64) uint32_t whole[16][16] = {}, across[16][16];
  for (int64_t i = 0; i < from.rows; i++) __builtin_memcpy(whole[i], from.data + i * from.stride, from.bytes);
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 16; j += 8) transpose_8x8(&whole[i][j], 16, &across[j][i], 16);
  for (int64_t i = 0; i < to.rows; i++) __builtin_memcpy(to.data + i * to.stride, across[i], to.bytes);
}

static inline void interleave(const bf16* even, const bf16* odd, int64_t count, void* out) {
  uint16_t lanes[2][16] = {};
  if (even) __builtin_memcpy(lanes[0], even, count * 2);
  if (odd) __builtin_memcpy(lanes[1], odd, count * 2);
  __m128i* to = static_cast<__m128i*>(out);
  for (int half = 0; half < 2; half++) {
    __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes[0] + 8 * half));
    __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes[1] + 8 * half));
    _mm_storeu_si128(to + 2 * half, _mm_unpacklo_epi16(low, high));
    _mm_storeu_si128(to + 2 * half + 1, _mm_unpackhi_epi16(low, high));
  }
}

#endif

}  // namespace FORETOKEN_LEVEL_NAMESPACE
