// What the blocked attention kernels share. Scores are computed across, keys × queries, so that softmax statistics are
// vectors of queries and no sum runs along a register; probabilities come out in the order the next product reads.
#pragma once
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// Queries and keys of a block. Blocks start at multiples of this, so the diagonal runs through whole blocks.
constexpr int64_t kBlockTokens = 64;

struct AttentionShape {
  DType dtype;
  int64_t B, T, H, G, D;

  AttentionShape(const View& q, const View& k)
      : dtype(q.dtype), B(q.shape[0]), T(q.shape[1]), H(q.shape[2]), G(k.shape[2]), D(q.shape[3]) {}
  int64_t blocks() const { return (T + kBlockTokens - 1) / kBlockTokens; }
  // Positions in block i.
  int64_t length(int64_t i) const { return T - i * kBlockTokens < kBlockTokens ? T - i * kBlockTokens : kBlockTokens; }
  int64_t query(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * D; }
  int64_t key(int64_t b, int64_t t, int64_t g) const { return ((b * T + t) * G + g) * D; }
};

inline void* at(const View& view, int64_t offset) {
  return static_cast<char*>(view.data) + offset * bytes_per_element(view.dtype);
}
inline float* floats(const View& view, int64_t offset) { return static_cast<float*>(view.data) + offset; }

// Hands out the parts of a workspace, 64-byte aligned; with base nullptr it counts how many bytes they need.
struct Carver {
  char* base;
  size_t used = 0;
  explicit Carver(void* base_) : base(static_cast<char*>(base_)) {}
  template <class T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(base + used);
    used += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return part;
  }
};

// Which keys the queries of a block see: query t those in [first[t], t].
struct Visibility {
  alignas(64) float first[kBlockTokens], last[kBlockTokens];  // as floats, exact up to 2²⁴ tokens
  int64_t first_block;                                        // earlier key blocks are seen by no query
  int64_t all_from;                                           // from this key on, every query has begun

  Visibility(const AttentionShape& n, const View& first_key, int64_t b, int64_t block) {
    int64_t earliest = n.T, latest = 0;
    for (int64_t i = 0; i < kBlockTokens; i++) {
      int64_t t = block * kBlockTokens + (i < n.length(block) ? i : 0);
      int64_t key = given(first_key) ? static_cast<const int32_t*>(first_key.data)[b * n.T + t] : 0;
      key = key < 0 ? 0 : key;
      first[i] = static_cast<float>(key);
      last[i] = static_cast<float>(t);
      earliest = key < earliest ? key : earliest;
      latest = key > latest ? key : latest;
    }
    first_block = earliest / kBlockTokens;
    all_from = latest;
  }
  // Does every query of block i see every key of block j?
  bool whole(int64_t i, int64_t j) const { return j < i && j * kBlockTokens >= all_from; }
};

// x where the query of each lane sees the key, −∞ elsewhere.
inline Vec where_visible(Vec x, float key, const float* first, const float* last) {
  Vec position = broadcast(key), hidden = broadcast(-__builtin_inff());
#if defined(__AVX512F__)
  __mmask16 begun = _mm512_cmp_ps_mask(load(first), position, _CMP_LE_OQ);
  return _mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask(begun, position, load(last), _CMP_LE_OQ), hidden, x);
#else
  Vec begun = _mm256_cmp_ps(load(first), position, _CMP_LE_OQ);
  Vec reached = _mm256_cmp_ps(position, load(last), _CMP_LE_OQ);
  return _mm256_blendv_ps(hidden, x, _mm256_and_ps(begun, reached));
#endif
}

// Two rows of a matrix, vector by vector, in storage dtype: as rows, and as the rows of a packed panel.
template <class S>
struct RowPair;

template <>
struct RowPair<float> {
  Vec even, odd;
  RowPair(Vec even_, Vec odd_) : even(even_), odd(odd_) {}
  void store_rows(float* even_row, float* odd_row) const {
    store(even_row, even);
    store(odd_row, odd);
  }
  // to: row `even` of a panel, at the column of the first lane.
  void store_packed(float* to) const {
    store(to, even);
    store(to + kPanel, odd);
  }
};

template <>
struct RowPair<bf16> {
#if defined(__AVX512BF16__)
  __m512i both;  // the even row's 16 elements, then the odd row's
  RowPair(Vec even, Vec odd) : both((__m512i)_mm512_cvtne2ps_pbh(odd, even)) {}
  void store_rows(bf16* even_row, bf16* odd_row) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(even_row), _mm512_castsi512_si256(both));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd_row), _mm512_extracti64x4_epi64(both, 1));
  }
  void store_packed(bf16* to) const {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, both));
  }
#elif defined(__AVX512F__)
  __m256i even, odd;
  RowPair(Vec even_, Vec odd_) : even(narrow(even_)), odd(narrow(odd_)) {}
  void store_rows(bf16* even_row, bf16* odd_row) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(even_row), even);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd_row), odd);
  }
  void store_packed(bf16* to) const {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
  }
#else
  __m128i even, odd;
  RowPair(Vec even_, Vec odd_) : even(narrow(even_)), odd(narrow(odd_)) {}
  void store_rows(bf16* even_row, bf16* odd_row) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(even_row), even);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(odd_row), odd);
  }
  void store_packed(bf16* to) const {
    __m128i* words = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(words, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128(words + 1, _mm_unpackhi_epi16(even, odd));
  }
#endif
};

// A block of keys × queries packed as B of a product over keys, filled two keys at a time: vector by vector of queries
// from the first on: an odd last key is paired with zeros, which in f32 lie where the next panel begins.
template <class S>
struct PackedBlock {
  S* panels;
  int64_t keys;

  static constexpr bool kPairs = sizeof(S) == 2;
  static int64_t elements() { return kBlockTokens * kBlockTokens; }
  int64_t panel_rows() const { return kPairs ? (keys + 31) / 32 * 32 : keys; }
  S* panel(int64_t query) const { return panels + query / kPanel * kPanel * panel_rows(); }
  // Where the pair of keys (s, s+1), s even, of these queries goes.
  S* place(int64_t s, int64_t query) const { return panel(query) + s * kPanel + query % kPanel * (kPairs ? 2 : 1); }
  // bf16 panels are read in steps of 32 keys: zeros after the last pair.
  void finish(int64_t queries) const {
    int64_t written = (keys + 1) / 2 * 2;
    if (kPairs && written < panel_rows())
      for (int64_t query = 0; query < queries; query += kPanel)
        __builtin_memset(panel(query) + written * kPanel, 0, (panel_rows() - written) * kPanel * sizeof(S));
  }
};

}  // namespace

size_t attention_workspace(const Machine&, In q, In k, In v, In first_key, Out out, Out lse, double scale);
void attention(const Call&, In q, In k, In v, In first_key, Out out, Out lse, double scale);
size_t attention_backward_workspace(const Machine&, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq,
                                    Out dk, Out dv, double scale);
void attention_backward(const Call&, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk, Out dv,
                        double scale);
size_t attention_cached_workspace(const Machine&, In q, In key_cache, In value_cache, In sequence, In position,
                                  In first_key, In branch, Out out, double scale);
void attention_cached(const Call&, In q, In key_cache, In value_cache, In sequence, In position, In first_key,
                      In branch, Out out, double scale);
size_t rope_workspace(const Machine&, InOut x, In positions, int64_t period, double theta, bool inverse);
void rope(const Call&, InOut x, In positions, int64_t period, double theta, bool inverse);
size_t rope_append_workspace(const Machine&, In qkv, In sequence, In position, In place, Out q, InOut key_cache,
                             InOut value_cache, double theta);
void rope_append(const Call&, In qkv, In sequence, In position, In place, Out q, InOut key_cache, InOut value_cache,
                 double theta);

}  // namespace FORETOKEN_LEVEL_NAMESPACE
