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
  const float* query;      // (D)
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

// Lane i of the result is the sum of x[i]'s lanes.
Vec sums_of(const Vec (&x)[kWidth]) {
#if defined(__AVX512F__)
  Vec a[8], b[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++)
    a[i] = add(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    b[i] = add(_mm512_shuffle_ps(a[2 * i], a[2 * i + 1], 0x44), _mm512_shuffle_ps(a[2 * i], a[2 * i + 1], 0xee));
  // Each 128-bit lane of b[i] now holds its part of the sums 4i … 4i+3.
  Vec c = add(_mm512_shuffle_f32x4(b[0], b[1], 0x88), _mm512_shuffle_f32x4(b[0], b[1], 0xdd));
  Vec d = add(_mm512_shuffle_f32x4(b[2], b[3], 0x88), _mm512_shuffle_f32x4(b[2], b[3], 0xdd));
  return add(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
#else
  Vec a[4], b[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    a[i] = add(_mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]));
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++)
    b[i] = add(_mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0x44), _mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0xee));
  return add(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31));
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

// products[i][s] = query i · key s, lane by lane, of keys(0) … keys(kWidth − 1). kWhole: D is a multiple of the width.
template <bool kWhole, int N, class Keys>
void multiply_keys(const RangeQuery* queries, Keys keys, int64_t D, Vec (&products)[N][kWidth]) {
  constexpr int K = kKeys<N>;
#pragma GCC unroll 4
  for (int s = 0; s < kWidth; s += K) {
    Vec sums[N][K];
#pragma GCC unroll 4
    for (int i = 0; i < N; i++)
#pragma GCC unroll 16
      for (int key = 0; key < K; key++) sums[i][key] = zero();
    for (int64_t j = 0; j < D; j += kWidth) {
#pragma GCC unroll 16
      for (int key = 0; key < K; key++) {
        const Vec x = load_some<kWhole>(keys(s + key) + j, D - j);
#pragma GCC unroll 4
        for (int i = 0; i < N; i++) sums[i][key] = fma(x, load_some<kWhole>(queries[i].query + j, D - j), sums[i][key]);
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
template <bool kWhole, int N, class Key>
void score(const RangeQuery* queries, Key key, int64_t first, int64_t end, int64_t D, float scale,
           float (*scores)[kRange], Vec (&largest)[N]) {
  for (int64_t s = first; s < end; s += kWidth) {
    Vec products[N][kWidth];
    // Past the end the last key stands in.
    multiply_keys<kWhole, N>(queries, [&](int64_t i) { return key(s + i < end ? s + i : end - 1); }, D, products);
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) {
      const int64_t seen = queries[i].count > s ? queries[i].count - s : 0;
      const Vec x = select_n(mul(broadcast(scale), sums_of(products[i])), broadcast(-__builtin_inff()), seen);
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
  score<kWhole, 1>(&query, key, first, query.count, range.D, range.scale, scores, own);
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

// The keys of one query from the even `first` on: added to its sums of even and of odd keys before, and both together
// stored, of `vectors` vectors from element j on.
template <bool kWhole, int V, class S>
[[gnu::noinline]] void gather_rest(const RangeQuery& query, const Range<S>& range, int64_t first, const float* weights,
                                   int64_t j, int64_t vectors, Vec (&sums)[2][V]) {
  const int64_t left = range.D - j;
  for (int64_t s = first; s < query.count; s++) {
    const S* value = s < query.straight ? range.values + s * range.D : range.value_slot + query.offsets[s];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      if (v < vectors)
        sums[s % 2][v] =
            fma(broadcast(weights[s]), load_some<kWhole>(value + j + v * kWidth, left - v * kWidth), sums[s % 2][v]);
  }
  for (int v = 0; v < vectors; v++)
    store_n(query.sums + j + v * kWidth, add(sums[0][v], sums[1][v]), left - v * kWidth);
}

// sums = Σ_s weights[s]·values[s], even and odd keys apart, each in order; V vectors of D at a time. The queries go
// together through the keys that all of them see in order, [0, shared), then each through the rest of its own.
template <bool kWhole, int N, class S>
void gather_values(const RangeQuery* queries, const Range<S>& range, int64_t shared, const float (*weights)[kRange]) {
  constexpr int V = kWidth == 16 ? (N > 2 ? 2 : 4) : (N > 2 ? 1 : 4 / N);
  const int64_t D = range.D;
  for (int64_t j = 0; j < D; j += V * kWidth) {
    const int64_t vectors = (D - j + kWidth - 1) / kWidth < V ? (D - j + kWidth - 1) / kWidth : V;
    Vec even[N][V], odd[N][V];
#pragma GCC unroll 4
    for (int i = 0; i < N; i++)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) even[i][v] = odd[i][v] = zero();
    const auto load_value = [&](const S* value, int v) {
      return load_some<kWhole>(value + j + v * kWidth, D - j - v * kWidth);
    };
    const auto add_for_all = [&](int64_t s, Vec(&sums)[N][V]) {
      const S* value = range.values + s * D;
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        if (v >= vectors) break;
        const Vec x = load_value(value, v);
#pragma GCC unroll 4
        for (int i = 0; i < N; i++) sums[i][v] = fma(broadcast(weights[i][s]), x, sums[i][v]);
      }
    };
    for (int64_t s = 0; s < shared; s += 2) add_for_all(s, even), add_for_all(s + 1, odd);
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) {
      Vec own[2][V];
      for (int v = 0; v < V; v++) own[0][v] = even[i][v], own[1][v] = odd[i][v];
      gather_rest<kWhole, V>(queries[i], range, shared, weights[i], j, vectors, own);
    }
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
  score<kWhole, N>(queries, in_order, 0, together, D, range.scale, scores, largest);
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
