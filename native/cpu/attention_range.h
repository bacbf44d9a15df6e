// Queries against a range of keys that they share: scores, softmax relative to the range's own maximum, weighted
// values. Keys and values are widened once for up to kQueries queries; a query's bits are those it has alone.
#pragma once
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

constexpr int64_t kRange = 256;  // positions
constexpr int kQueries = 4;      // whose sums fit the registers

// One query of a range. Its keys from `straight` on lie at places of their own, at slot + offsets[s].
struct RangeQuery {
  const float* query;      // (D); as lay_query leaves it
  int64_t count;           // keys it sees: [0, count) of the range
  int64_t straight;        // of those in order; count where all are
  const int64_t* offsets;  // (count) elements from the slot's start; read where straight < count
  float *largest, *total;  // of its scores; of exp(score − largest)
  float* sums;             // (D) Σ exp(score − largest)·value
};

template <class S>
struct Range {
  const S *keys, *values;          // of the range's first position, one after the other
  const S *key_slot, *value_slot;  // what offsets count from
  int64_t D;
  float scale;
};

// Whether the elements of two keys come as one vector: 32 bits of bf16 are an even and an odd element, each of which is
// a float after one instruction, where widening them in order takes two.
template <bool kWhole, class S>
constexpr bool kPairs = false;
template <>
constexpr bool kPairs<true, bf16> = true;

// The first of the two keys whose elements are pair p; the other is the fourth after it.
constexpr int first_of_pair(int p) { return p / 4 * 8 + p % 4; }

#if defined(__AVX512F__)
Vec even_of(__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
Vec odd_of(__m512i x) { return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(~0xffff))); }
__m512i load_words(const bf16* p) { return _mm512_loadu_si512(p); }
// kWidth elements of each.
__m512i load_words(const bf16* first, const bf16* second) {
  const auto half = [](const bf16* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
  return _mm512_inserti64x4(_mm512_castsi256_si512(half(first)), half(second), 1);
}
// Elements in order from the even and the odd ones.
void store_pair(float* p, Vec even, Vec odd) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  store(p, _mm512_permutex2var_ps(even, low, odd));
  store(p + kWidth, _mm512_permutex2var_ps(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd));
}
Vec unpack_low(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }
Vec unpack_high(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }
template <int kLanes>
Vec shuffle(Vec a, Vec b) {
  return _mm512_shuffle_ps(a, b, kLanes);
}
// Neighbours among the 128-bit lanes, added.
Vec add_blocks(Vec a, Vec b) { return add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)); }
#else
Vec even_of(__m256i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)); }
Vec odd_of(__m256i x) { return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(~0xffff))); }
__m256i load_words(const bf16* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
// kWidth elements of each.
__m256i load_words(const bf16* first, const bf16* second) {
  const auto half = [](const bf16* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(half(first)), half(second), 1);
}
// Elements in order from the even and the odd ones.
void store_pair(float* p, Vec even, Vec odd) {
  const Vec low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
  store(p, _mm256_permute2f128_ps(low, high, 0x20));
  store(p + kWidth, _mm256_permute2f128_ps(low, high, 0x31));
}
Vec unpack_low(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }
Vec unpack_high(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }
template <int kLanes>
Vec shuffle(Vec a, Vec b) {
  return _mm256_shuffle_ps(a, b, kLanes);
}
#endif

// Neighbours in each 128-bit lane, added: of a, then of b.
Vec add_neighbours(Vec a, Vec b) { return add(shuffle<0x88>(a, b), shuffle<0xdd>(a, b)); }

// Lane i of the result is the sum of x[i]'s lanes: in each 128-bit lane (0 + 2) + (1 + 3), then these from left to
// right as a tree. Where x comes of pairs, of key i's lanes, added in the same order.
template <bool kPaired>
Vec sums_of(const Vec (&x)[kWidth]) {
  Vec quads[kWidth / 4];
#pragma GCC unroll 4
  for (int i = 0; i < kWidth / 4; i++) {
    const Vec* four = x + 4 * i;
    if constexpr (kPaired) {
      quads[i] = add(add_neighbours(four[0], four[2]), add_neighbours(four[1], four[3]));
    } else {
      const Vec a = add(unpack_low(four[0], four[1]), unpack_high(four[0], four[1]));
      const Vec b = add(unpack_low(four[2], four[3]), unpack_high(four[2], four[3]));
      quads[i] = add(shuffle<0x44>(a, b), shuffle<0xee>(a, b));
    }
  }
#if defined(__AVX512F__)
  if constexpr (kPaired) return add_blocks(add_neighbours(quads[0], quads[1]), add_neighbours(quads[2], quads[3]));
  // Each 128-bit lane of quads[i] holds its part of the sums 4i … 4i+3.
  return add_blocks(add_blocks(quads[0], quads[1]), add_blocks(quads[2], quads[3]));
#else
  if constexpr (kPaired) return add_neighbours(quads[0], quads[1]);
  return add(_mm256_permute2f128_ps(quads[0], quads[1], 0x20), _mm256_permute2f128_ps(quads[0], quads[1], 0x31));
#endif
}

// `count` elements from `from` on as floats; kWhole: a whole vector of them.
template <bool kWhole, class S>
Vec load_some(const S* from, int64_t count) {
  if constexpr (kWhole)
    return load(from);
  else
    return load_n(from, count);
}

// Keys whose products with N queries are summed at once.
template <int N>
constexpr int kKeys = N == 1 ? kWidth : kWidth / (N == 2 ? 2 : 4);

// As scores read a query: in order, or of every kWidth elements the even ones twice, then the odd ones twice.
template <class S>
void lay_query(const S* from, int64_t D, float* query) {
  for (int64_t j = 0; j < D; j += kWidth) store_n(query + j, load_n(from + j, D - j), D - j);
}
constexpr int kQueryFloats = 2;  // per element, at most
void lay_query(const bf16* from, int64_t D, float* query) {
  if (D % kWidth != 0) return lay_query<bf16>(from, D, query);
  for (int64_t j = 0; j < D; j += kWidth) {
    const auto words = load_words(from + j, from + j);
    store(query + 2 * j, even_of(words));
    store(query + 2 * j + kWidth, odd_of(words));
  }
}

// products[i][s] = query i · key s, lane by lane, of keys(0) … keys(kWidth − 1); as pairs, of the even elements of two
// keys, then of the odd ones. kWhole: D is a multiple of the width.
template <bool kWhole, class S, int N, class Keys>
void multiply_keys(const RangeQuery* queries, Keys keys, int64_t D, Vec (&products)[N][kWidth]) {
  constexpr int K = kKeys<N>;
  constexpr bool kPaired = kPairs<kWhole, S>;
#pragma GCC unroll 4
  for (int s = 0; s < kWidth; s += K) {
    Vec sums[N][K];
#pragma GCC unroll 4
    for (int i = 0; i < N; i++)
#pragma GCC unroll 16
      for (int key = 0; key < K; key++) sums[i][key] = zero();
    for (int64_t j = 0; j < D; j += kWidth) {
      Vec x[K];
#pragma GCC unroll 16
      for (int key = 0; key < K; key += kPaired ? 2 : 1) {
        if constexpr (kPaired) {
          const int first = first_of_pair((s + key) / 2);
          const auto words = load_words(keys(first) + j, keys(first + 4) + j);
          x[key] = even_of(words), x[key + 1] = odd_of(words);
        } else {
          x[key] = load_some<kWhole>(keys(s + key) + j, D - j);
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < N; i++) {
        const float* query = queries[i].query;
        Vec first = kPaired ? load(query + 2 * j) : load_some<kWhole>(query + j, D - j);
        Vec second = kPaired ? load(query + 2 * j + kWidth) : first;
        // Each is read once, not once a key: reading is as narrow a way as multiplying here.
        if constexpr (kPaired) asm("" : "+v"(first), "+v"(second));
#pragma GCC unroll 16
        for (int key = 0; key < K; key++) sums[i][key] = fma(x[key], key % 2 ? second : first, sums[i][key]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < N; i++)
#pragma GCC unroll 16
      for (int key = 0; key < K; key++) products[i][s + key] = sums[i][key];
  }
}

// scores[i][s] = scale·query i·key(s) for s in [first, end), −∞ from the query's count up to the next whole vector.
// largest[i] becomes the largest of them and itself.
template <bool kWhole, class S, int N, class Key>
void score(const RangeQuery* queries, Key key, int64_t first, int64_t end, int64_t D, float scale,
           float (*scores)[kRange], Vec (&largest)[N]) {
  for (int64_t s = first; s < end; s += kWidth) {
    Vec products[N][kWidth];
    // Past the end the last key stands in.
    multiply_keys<kWhole, S, N>(queries, [&](int64_t i) { return key(s + i < end ? s + i : end - 1); }, D, products);
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) {
      const int64_t seen = queries[i].count > s ? queries[i].count - s : 0;
      const Vec x =
          select_n(mul(broadcast(scale), sums_of<kPairs<kWhole, S>>(products[i])), broadcast(-__builtin_inff()), seen);
      store(scores[i] + s, x);
      largest[i] = max(largest[i], x);
    }
  }
}

// The scores of one query from `first` on, some of whose keys are out of order. Returns the largest of them and
// `largest`.
template <bool kWhole, class S>
[[gnu::noinline]] Vec score_rest(const RangeQuery& query, const Range<S>& range, int64_t first, float (*scores)[kRange],
                                 Vec largest) {
  const auto key = [&](int64_t s) {
    return s < query.straight ? range.keys + s * range.D : range.key_slot + query.offsets[s];
  };
  Vec own[1] = {largest};
  score<kWhole, S, 1>(&query, key, first, query.count, range.D, range.scale, scores, own);
  return own[0];
}

// scores become exp(scores − largest). Returns their sum.
float soften(float* scores, int64_t count, float largest) {
  Vec total = zero();
  for (int64_t s = 0; s < count; s += kWidth) {
    Vec weight = exp(sub(load(scores + s), broadcast(largest)));
    store(scores + s, weight);
    total = add(total, weight);
  }
  return reduce_add(total);
}

// `vectors` ≤ V vectors of a row from `from` on; as pairs, those of the even and of the odd elements in turn.
template <bool kWhole, bool kPaired, int V, class S>
void load_block(const S* from, int64_t vectors, int64_t left, Vec (&x)[V]) {
  if constexpr (kPaired) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v += 2) {
      const auto words = load_words(from + v * kWidth);
      x[v] = even_of(words), x[v + 1] = odd_of(words);
    }
  } else {
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      if (v < vectors) x[v] = load_some<kWhole>(from + v * kWidth, left - v * kWidth);
  }
}

// The keys of one query from the even `first` on: added to its sums of even and of odd keys before, and both together
// stored, of `vectors` vectors from element j on.
template <bool kWhole, bool kPaired, int V, class S>
[[gnu::noinline]] void gather_rest(const RangeQuery& query, const Range<S>& range, int64_t first, const float* weights,
                                   int64_t j, int64_t vectors, Vec (&sums)[2][V]) {
  const int64_t left = range.D - j;
  for (int64_t s = first; s < query.count; s++) {
    const S* value = s < query.straight ? range.values + s * range.D : range.value_slot + query.offsets[s];
    Vec x[V];
    load_block<kWhole, kPaired>(value + j, vectors, left, x);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      if (v < vectors) sums[s % 2][v] = fma(broadcast(weights[s]), x[v], sums[s % 2][v]);
  }
  float* out = query.sums + j;
  if constexpr (kPaired)
    for (int v = 0; v < V; v += 2)
      store_pair(out + v * kWidth, add(sums[0][v], sums[1][v]), add(sums[0][v + 1], sums[1][v + 1]));
  else
    for (int v = 0; v < vectors; v++) store_n(out + v * kWidth, add(sums[0][v], sums[1][v]), left - v * kWidth);
}

// Of `vectors` ≤ V vectors of D from element j on.
template <bool kWhole, bool kPaired, int N, int V, class S>
void gather_block(const RangeQuery* queries, const Range<S>& range, int64_t shared, const float (*weights)[kRange],
                  int64_t j, int64_t vectors) {
  const int64_t D = range.D;
  Vec even[N][V], odd[N][V];
#pragma GCC unroll 4
  for (int i = 0; i < N; i++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) even[i][v] = odd[i][v] = zero();
  const auto add_for_all = [&](int64_t s, Vec(&sums)[N][V]) {
    Vec x[V];
    load_block<kWhole, kPaired>(range.values + s * D + j, vectors, D - j, x);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      if (v >= vectors) break;
#pragma GCC unroll 4
      for (int i = 0; i < N; i++) sums[i][v] = fma(broadcast(weights[i][s]), x[v], sums[i][v]);
    }
  };
  for (int64_t s = 0; s < shared; s += 2) add_for_all(s, even), add_for_all(s + 1, odd);
#pragma GCC unroll 4
  for (int i = 0; i < N; i++) {
    Vec own[2][V];
    for (int v = 0; v < V; v++) own[0][v] = even[i][v], own[1][v] = odd[i][v];
    gather_rest<kWhole, kPaired, V>(queries[i], range, shared, weights[i], j, vectors, own);
  }
}

// sums = Σ_s weights[s]·values[s], even and odd keys apart, each in order; V vectors of D at a time. The queries go
// together through the keys that all of them see in order, [0, shared), then each through the rest of its own.
template <bool kWhole, int N, class S>
void gather_values(const RangeQuery* queries, const Range<S>& range, int64_t shared, const float (*weights)[kRange]) {
  constexpr int V = kWidth == 16 ? (N > 2 ? 2 : 4) : (N > 2 ? 1 : 4 / N);
  constexpr bool kPaired = kPairs<kWhole, S> && V % 2 == 0;
  int64_t j = 0;
  if constexpr (kPaired)
    for (; j + V * kWidth <= range.D; j += V * kWidth)
      gather_block<kWhole, true, N, V>(queries, range, shared, weights, j, V);
  for (; j < range.D; j += V * kWidth) {
    const int64_t vectors = (range.D - j + kWidth - 1) / kWidth;
    gather_block<kWhole, false, N, V>(queries, range, shared, weights, j, vectors < V ? vectors : V);
  }
}

template <bool kWhole, int N, class S>
void attend_keys(const RangeQuery* queries, const Range<S>& range) {
  alignas(64) float scores[N][kRange];
  const int64_t D = range.D;
  int64_t longest = 0, shared = kRange;
  bool branch = false;
  for (int i = 0; i < N; i++) {
    longest = queries[i].count > longest ? queries[i].count : longest;
    shared = queries[i].straight < shared ? queries[i].straight : shared;
    branch = branch || queries[i].straight < queries[i].count;
  }
  Vec largest[N];
  for (Vec& each : largest) each = broadcast(-__builtin_inff());
  const int64_t together = branch ? shared / kWidth * kWidth : longest;
  const auto in_order = [&](int64_t s) { return range.keys + s * D; };
  score<kWhole, S, N>(queries, in_order, 0, together, D, range.scale, scores, largest);
  for (int i = 0; i < N; i++) {
    const RangeQuery& query = queries[i];
    if (together < query.count) largest[i] = score_rest<kWhole>(query, range, together, scores + i, largest[i]);
    *query.largest = reduce_max(largest[i]);
    *query.total = soften(scores[i], query.count, *query.largest);
  }
  gather_values<kWhole, N>(queries, range, shared / 2 * 2, scores);
}

// What `count` ≤ kQueries queries make of the range; one by one where D leaves vectors incomplete.
template <class S>
void attend_range(const RangeQuery* queries, int count, const Range<S>& range) {
  if (range.D % kWidth != 0) {
    for (int i = 0; i < count; i++) attend_keys<false, 1>(queries + i, range);
    return;
  }
  if (count == 1) attend_keys<true, 1>(queries, range);
  if (count == 2) attend_keys<true, 2>(queries, range);
  if (count == 3) attend_keys<true, 3>(queries, range);
  if (count == 4) attend_keys<true, 4>(queries, range);
}

}  // namespace
}  // namespace FORETOKEN_LEVEL_NAMESPACE
