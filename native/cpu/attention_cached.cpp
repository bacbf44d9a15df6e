// One query row against the cache. The keys of a sequence are cut at multiples of kRange positions; a task takes one
// range of one (row, g), and the ranges of a row are put together in order. So a row's bits depend on its own prefix
// alone, whatever else is in the batch, and one long sequence still keeps all threads busy. Where keys lie out of
// order, as those of a tree's branches do, only their addresses change. (Tried: keys and values widened to floats once
// for four rows of a sequence. Of 120 keys, D = 64, a row and head then takes 0.69 µs instead of 0.79, but a row
// alone 1.18.)
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

constexpr int64_t kRange = 256;

struct CachedShape {
  int64_t R, H, G, D, slots, capacity, ranges;

  CachedShape(const View& q, const View& cache)
      : R(q.shape[0]),
        H(q.shape[1]),
        G(cache.shape[1]),
        D(q.shape[2]),
        slots(cache.shape[0]),
        capacity(cache.shape[2]),
        ranges((capacity + kRange - 1) / kRange) {}
};

// The keys a row sees: [first, last] of its sequence; none (last < 0) when out of range.
struct Prefix {
  int64_t slot, first, last;

  Prefix(const CachedShape& n, int64_t r, const In& sequence, const In& position, const In& first_key)
      : slot(static_cast<const int32_t*>(sequence.data)[r]),
        first(given(first_key) ? static_cast<const int32_t*>(first_key.data)[r] : 0),
        last(static_cast<const int32_t*>(position.data)[r]) {
    if (slot < 0 || slot >= n.slots || last >= n.capacity) last = -1;
    first = first < 0 ? 0 : first;
  }
  int64_t first_range() const { return first / kRange; }
  int64_t last_range() const { return last < 0 ? -1 : last / kRange; }
};

// Where the last positions of a row lie in its slot: position s ≥ first at places[s − first], the others in order.
struct Branch {
  const int32_t* places;
  int64_t first;

  Branch(const In& branch, const Prefix& prefix, int64_t r)
      : places(static_cast<const int32_t*>(branch.data) + r * last_dimension(branch)),
        first(prefix.last + 1 - (given(branch) ? last_dimension(branch) : 0)) {}
  int64_t place(int64_t s, int64_t capacity) const {
    const int64_t place = places[s - first];
    return place < 0 ? 0 : place < capacity ? place : capacity - 1;
  }
};

// Of one range: softmax relative to its own maximum. (R,H,ranges) each, sums (R,H,ranges,D).
struct Partials {
  float *largest, *total, *sums;
  float* queries;  // (D) per worker: a query row as floats

  Partials(const CachedShape& n, int threads, Carver& carve)
      : largest(carve.take<float>(n.R * n.H * n.ranges)),
        total(carve.take<float>(n.R * n.H * n.ranges)),
        sums(carve.take<float>(n.R * n.H * n.ranges * n.D)),
        queries(carve.take<float>(threads * n.D)) {}
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

// Keys or values of a range, one after the other.
template <class S>
struct InOrder {
  const S* first;
  int64_t D;
  const S* operator[](int64_t s) const { return first + s * D; }
};

// Those at places of their own: s at slot + offsets[s].
template <class S>
struct Scattered {
  const S* slot;
  const int64_t* offsets;
  const S* operator[](int64_t s) const { return slot + offsets[s]; }
};

// What a range reads. In a branch all of it is given as scattered, the first `straight` keys, a multiple of kWidth,
// also in order: their scores need no table.
template <class S>
struct Range {
  int64_t count, straight;
  InOrder<S> keys, values;
  Scattered<S> branch_keys, branch_values;
};

// `count` elements from `from` on as floats; kWhole: a whole vector of them.
template <bool kWhole, class S>
Vec load_some(const S* from, int64_t count) {
  if constexpr (kWhole)
    return load(from);
  else
    return load_n(from, count);
}

// scores[s] = scale·q·keys[s] for s in [first, end), −∞ up to the next whole vector. Returns the largest.
// kWhole: D is a multiple of the vector's width.
template <bool kWhole, class Rows>
float score(const float* q, Rows keys, int64_t first, int64_t end, int64_t D, float scale, float* scores) {
  Vec largest = broadcast(-__builtin_inff());
  for (int64_t s = first; s < end; s += kWidth) {
    Vec products[kWidth];
    for (Vec& product : products) product = zero();
    const int64_t here = end - s < kWidth ? end - s : kWidth;
    for (int64_t j = 0; j < D; j += kWidth) {
      const Vec query = load_some<kWhole>(q + j, D - j);
      const auto add_key = [&](int64_t i) {
        products[i] = fma(load_some<kWhole>(keys[s + i] + j, D - j), query, products[i]);
      };
      if (here == kWidth) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; i++) add_key(i);
      } else {
        for (int64_t i = 0; i < here; i++) add_key(i);
      }
    }
    Vec x = select_n(mul(broadcast(scale), sums_of(products)), broadcast(-__builtin_inff()), end - s);
    store(scores + s, x);
    largest = max(largest, x);
  }
  return reduce_max(largest);
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

// sums = Σ_s weights[s]·values[s], even and odd keys apart, each in order; kVectors vectors of D at a time.
template <bool kWhole, class Rows>
void gather_values(const float* weights, Rows values, int64_t count, int64_t D, float* sums) {
  constexpr int kVectors = 4;
  for (int64_t i = 0; i < D; i += kVectors * kWidth) {
    const int64_t vectors = (D - i + kWidth - 1) / kWidth < kVectors ? (D - i + kWidth - 1) / kWidth : kVectors;
    Vec even[kVectors] = {zero(), zero(), zero(), zero()}, odd[kVectors] = {zero(), zero(), zero(), zero()};
    const auto add_key = [&](int64_t s, Vec(&sum)[kVectors]) {
      const Vec weight = broadcast(weights[s]);
      const auto value = values[s] + i;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++)
        if (v < vectors) sum[v] = fma(weight, load_some<kWhole>(value + v * kWidth, D - i - v * kWidth), sum[v]);
    };
    int64_t s = 0;
    for (; s + 1 < count; s += 2) add_key(s, even), add_key(s + 1, odd);
    if (s < count) add_key(s, even);
    for (int v = 0; v < vectors; v++) {
      const int64_t left = D - i - v * kWidth;
      store_n(sums + i + v * kWidth, add(even[v], odd[v]), left);
    }
  }
}

// One query row over a range, as Partials have it.
template <bool kWhole, bool kBranch, class S>
void attend_keys(const float* query, const Range<S>& range, int64_t D, float scale, float& largest, float& total,
                 float* sums) {
  alignas(64) float scores[kRange];
  largest = score<kWhole>(query, range.keys, 0, kBranch ? range.straight : range.count, D, scale, scores);
  if constexpr (kBranch) {
    const float other = score<kWhole>(query, range.branch_keys, range.straight, range.count, D, scale, scores);
    largest = other > largest ? other : largest;
  }
  total = soften(scores, range.count, largest);
  if constexpr (kBranch)
    gather_values<kWhole>(scores, range.branch_values, range.count, D, sums);
  else
    gather_values<kWhole>(scores, range.values, range.count, D, sums);
}

template <bool kBranch, class S>
void attend_heads(const CachedShape& n, const Range<S>& range, int64_t r, int64_t g, int64_t index, const In& q,
                  float scale, float* query, const Partials& partials) {
  const int64_t group = n.H / n.G;
  for (int64_t h = g * group; h < (g + 1) * group; h++) {
    const S* row = static_cast<const S*>(at(q, (r * n.H + h) * n.D));
    for (int64_t i = 0; i < n.D; i += kWidth) store_n(query + i, load_n(row + i, n.D - i), n.D - i);
    const int64_t place = (r * n.H + h) * n.ranges + index;
    float &largest = partials.largest[place], &total = partials.total[place], *sums = partials.sums + place * n.D;
    if (n.D % kWidth == 0)
      attend_keys<true, kBranch>(query, range, n.D, scale, largest, total, sums);
    else
      attend_keys<false, kBranch>(query, range, n.D, scale, largest, total, sums);
  }
}

template <class S>
void attend_range(const CachedShape& n, const Prefix& prefix, int64_t r, int64_t g, int64_t index, const In& q,
                  const In& key_cache, const In& value_cache, const Branch& branch, float scale, float* query,
                  const Partials& partials) {
  const int64_t first = index * kRange > prefix.first ? index * kRange : prefix.first;
  const int64_t end = (index + 1) * kRange < prefix.last + 1 ? (index + 1) * kRange : prefix.last + 1;
  const int64_t offset = (prefix.slot * n.G + g) * n.capacity * n.D;
  const S *keys = static_cast<const S*>(at(key_cache, offset)),
          *values = static_cast<const S*>(at(value_cache, offset));
  Range<S> range{end - first, end - first, {keys + first * n.D, n.D}, {values + first * n.D, n.D}, {}, {}};
  if (end <= branch.first) return attend_heads<false>(n, range, r, g, index, q, scale, query, partials);
  int64_t offsets[kRange];
  range.straight = branch.first > first ? (branch.first - first) / kWidth * kWidth : 0;
  int64_t s = first;
  for (; s < end && s < branch.first; s++) offsets[s - first] = s * n.D;
  for (; s < end; s++) offsets[s - first] = branch.place(s, n.capacity) * n.D;
  range.branch_keys = {keys, offsets};
  range.branch_values = {values, offsets};
  attend_heads<true>(n, range, r, g, index, q, scale, query, partials);
}

// out = Σ_ranges sums·exp(largest − m) / Σ_ranges total·exp(largest − m), m the largest of all.
template <class S>
void combine_ranges(const CachedShape& n, const Prefix& prefix, const Partials& partials, int64_t row, S* out) {
  int64_t first = row * n.ranges + prefix.first_range(), last = row * n.ranges + prefix.last_range();
  float largest = -__builtin_inff();
  for (int64_t i = first; i <= last; i++) largest = partials.largest[i] > largest ? partials.largest[i] : largest;
  for (int64_t j = 0; j < n.D; j += kWidth) {
    Vec sum = zero(), total = zero();
    for (int64_t i = first; i <= last; i++) {
      Vec weight = exp(broadcast(partials.largest[i] - largest));
      sum = fma(weight, load_n(partials.sums + i * n.D + j, n.D - j), sum);
      total = fma(weight, broadcast(partials.total[i]), total);
    }
    store_n(out + j, prefix.last < 0 ? zero() : div(sum, total), n.D - j);
  }
}

template <class S>
void attend(const Call& call, const In& q, const In& key_cache, const In& value_cache, const In& sequence,
            const In& position, const In& first_key, const In& branch, const Out& out, float scale) {
  CachedShape n(q, key_cache);
  Carver carve(call.workspace);
  Partials partials(n, call.parallel ? call.parallel->threads : 1, carve);
  parallel_for(call, n.R * n.G * n.ranges, [&](int64_t task, int worker) {
    int64_t range = task % n.ranges, g = task / n.ranges % n.G, r = task / n.ranges / n.G;
    Prefix prefix(n, r, sequence, position, first_key);
    if (range < prefix.first_range() || range > prefix.last_range()) return;
    attend_range<S>(n, prefix, r, g, range, q, key_cache, value_cache, Branch(branch, prefix, r), scale,
                    partials.queries + worker * n.D, partials);
  });
  parallel_for(call, n.R, [&](int64_t r, int) {
    Prefix prefix(n, r, sequence, position, first_key);
    for (int64_t row = r * n.H; row < (r + 1) * n.H; row++)
      combine_ranges(n, prefix, partials, row, static_cast<S*>(at(out, row * n.D)));
  });
}

}  // namespace

size_t attention_cached_workspace(const Machine& machine, In q, In key_cache, In, In, In, In, In, Out, double) {
  Carver carve(nullptr);
  Partials(CachedShape(q, key_cache), machine.threads, carve);
  return carve.used;
}

void attention_cached(const Call& call, In q, In key_cache, In value_cache, In sequence, In position, In first_key,
                      In branch, Out out, double scale) {
  if (q.dtype == DType::bf16)
    attend<bf16>(call, q, key_cache, value_cache, sequence, position, first_key, branch, out,
                 static_cast<float>(scale));
  else
    attend<float>(call, q, key_cache, value_cache, sequence, position, first_key, branch, out,
                  static_cast<float>(scale));
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
