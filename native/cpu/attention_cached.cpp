// Query rows against the cache. The keys of a sequence are cut at multiples of kRange positions, and the ranges of a
// row are put together in order: so a row's bits depend on its own prefix alone, whatever else is in the batch and
// whichever task takes a range. A task takes a few queries of the same keys, and all their ranges where that keeps the
// threads busy. Where keys lie out of order, as those of a tree's branches do, only their addresses change.
#include "attention_range.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

struct CachedShape {
  int64_t R, H, G, group, D, slots, capacity, ranges;

  CachedShape(const View& q, const View& cache)
      : R(q.shape[0]),
        H(q.shape[1]),
        G(cache.shape[1]),
        group(H / G),
        D(q.shape[2]),
        slots(cache.shape[0]),
        capacity(cache.shape[2]),
        ranges((capacity + kRange - 1) / kRange) {}
};

// What a query makes of its ranges, 64-byte aligned so that no two threads write to one line: of each range the sums
// (D), the largest score and the total.
struct Partials {
  float* records;
  int64_t D, ranges;

  static int64_t size(int64_t D) { return (D + 2 + 15) / 16 * 16; }
  float* sums(int64_t query, int64_t range) const { return records + (query * ranges + range) * size(D); }
  float& largest(int64_t query, int64_t range) const { return sums(query, range)[D]; }
  float& total(int64_t query, int64_t range) const { return sums(query, range)[D + 1]; }
};

// The keys a row sees: [first, last] of its sequence; none (last < 0) when out of range.
struct Prefix {
  int64_t slot, first, last;
  int64_t first_range() const { return first / kRange; }
  int64_t last_range() const { return last < 0 ? -1 : last / kRange; }
};

// Where the last positions of a row lie in its slot: position s ≥ first at places[s − first], the others in order.
struct Branch {
  const int32_t* places;
  int64_t first;
};

// All that a task reads of the arguments, side by side: what the caller has just written travels line by line to the
// other threads, each of which waits for it.
template <class S>
struct CachedCall {
  CachedShape n;
  const S *q, *keys, *values;
  S* out;
  const int32_t *sequence, *position, *first_key, *branch;  // the last two or nullptr
  int64_t branch_length;
  float scale;
  bool whole;      // a task takes all ranges of its queries
  float* queries;  // (kQueries,kQueryFloats·D) per worker: query rows as floats
  Partials
      partials;  // (R,H,ranges) where the ranges of a row are tasks of their own, else (kQueries,ranges) per worker

  Prefix prefix(int64_t r) const {
    const int64_t slot = sequence[r], first = first_key ? first_key[r] : 0, last = position[r];
    const bool valid = slot >= 0 && slot < n.slots && last < n.capacity;
    return {slot, first < 0 ? 0 : first, valid ? last : -1};
  }
  Branch branch_of(const Prefix& prefix, int64_t r) const {
    return {branch + r * branch_length, prefix.last + 1 - branch_length};
  }
};

// Up to kQueries queries of one g whose keys are in one slot and begin together.
struct QueryRun {
  int count;
  int64_t g;
  int64_t row[kQueries], place[kQueries];  // of each query: r, and (r,h) as one number
  int64_t partial[kQueries];               // where in Partials it is
  float* queries;                          // (count,kQueryFloats·D)
};

// Where the keys [first, first + count) of a row in a tree lie in its slot, as elements from the slot's start.
void find_offsets(const Branch& branch, const CachedShape& n, int64_t first, int64_t count, int64_t* offsets) {
  for (int64_t s = first; s < first + count; s++) {
    int64_t place = s < branch.first ? s : branch.places[s - branch.first];
    place = place < 0 ? 0 : place < n.capacity ? place : n.capacity - 1;
    offsets[s - first] = place * n.D;
  }
}

// The queries of a run for which the range has keys.
template <class S>
void attend_run(const CachedCall<S>& call, const QueryRun& run, int64_t index) {
  const CachedShape& n = call.n;
  RangeQuery queries[kQueries];
  int64_t offsets[kQueries][kRange];  // written for trees alone
  int count = 0;
  const Prefix common = call.prefix(run.row[0]);
  const int64_t first = index * kRange > common.first ? index * kRange : common.first;
  for (int i = 0; i < run.count; i++) {
    const Prefix prefix = call.prefix(run.row[i]);
    if (index < prefix.first_range() || index > prefix.last_range()) continue;
    const int64_t end = (index + 1) * kRange < prefix.last + 1 ? (index + 1) * kRange : prefix.last + 1;
    int64_t straight = end - first;
    if (call.branch_length > 0) {
      const Branch branch = call.branch_of(prefix, run.row[i]);
      if (branch.first < end) {
        find_offsets(branch, n, first, end - first, offsets[count]);
        straight = branch.first > first ? branch.first - first : 0;
      }
    }
    queries[count] = {run.queries + i * kQueryFloats * n.D,
                      end - first,
                      straight,
                      offsets[count],
                      &call.partials.largest(run.partial[i], index),
                      &call.partials.total(run.partial[i], index),
                      call.partials.sums(run.partial[i], index)};
    count++;
  }
  if (count == 0) return;
  const int64_t slot = (common.slot * n.G + run.g) * n.capacity * n.D;
  const S *keys = call.keys + slot, *values = call.values + slot;
  attend_range<S>(queries, count, {keys + first * n.D, values + first * n.D, keys, values, n.D, call.scale});
}

// out = Σ_ranges sums·exp(largest − m) / Σ_ranges total·exp(largest − m), m the largest of all.
template <class S>
void combine_ranges(const CachedCall<S>& call, const Prefix& prefix, int64_t query, int64_t place) {
  const Partials& partials = call.partials;
  const int64_t first = prefix.first_range(), last = prefix.last_range(), D = call.n.D;
  float m = -__builtin_inff();
  for (int64_t i = first; i <= last; i++) m = partials.largest(query, i) > m ? partials.largest(query, i) : m;
  for (int64_t j = 0; j < D; j += kWidth) {
    Vec sum = zero(), total = zero();
    for (int64_t i = first; i <= last; i++) {
      Vec weight = exp(broadcast(partials.largest(query, i) - m));
      sum = fma(weight, load_n(partials.sums(query, i) + j, D - j), sum);
      total = fma(weight, broadcast(partials.total(query, i)), total);
    }
    store_n(call.out + place * D + j, prefix.last < 0 ? zero() : div(sum, total), D - j);
  }
}

// Body: void(run). Of the queries [first, end) of g, row by row, those that share their keys together.
template <class S, class Body>
void for_runs(const CachedCall<S>& call, int64_t g, int64_t first, int64_t end, int worker, Body body) {
  const CachedShape& n = call.n;
  QueryRun run;
  run.g = g;
  run.queries = call.queries + worker * kQueries * kQueryFloats * n.D;
  int64_t r = first / n.group, h = first % n.group;
  while (first < end) {
    const Prefix prefix = call.prefix(r);
    for (run.count = 0; first < end && run.count < kQueries; run.count++, first++) {
      const Prefix next = call.prefix(r);
      if (next.slot != prefix.slot || next.first != prefix.first) break;
      run.row[run.count] = r;
      run.place[run.count] = r * n.H + g * n.group + h;
      run.partial[run.count] = call.whole ? worker * kQueries + run.count : run.place[run.count];
      if (++h == n.group) h = 0, r++;
    }
    body(run);
  }
}

// Queries [first, end) of g over ranges.
template <class S>
void attend_queries(const CachedCall<S>& call, int64_t g, int64_t first, int64_t end, int64_t first_range,
                    int64_t end_range, int worker) {
  const int64_t D = call.n.D;
  for_runs(call, g, first, end, worker, [&](const QueryRun& run) {
    for (int i = 0; i < run.count; i++) lay_query(call.q + run.place[i] * D, D, run.queries + i * kQueryFloats * D);
    for (int64_t range = first_range; range < end_range; range++) attend_run(call, run, range);
    for (int i = 0; call.whole && i < run.count; i++)
      combine_ranges(call, call.prefix(run.row[i]), run.partial[i], run.place[i]);
  });
}

// How the work is cut, which changes no bit: a task takes `step` units of kQueries queries of one g; or, where they are
// too few for the threads, one range of one.
struct Cut {
  int64_t blocks, units, step;
  bool whole;

  // Of few rows a thread's queries are one task: handing out a task costs as much as scoring a hundred keys.
  Cut(const CachedShape& n, int threads) {
    constexpr int64_t kFewRows = 16;
    blocks = (n.R * n.group + kQueries - 1) / kQueries;
    units = blocks * n.G;
    whole = n.ranges == 1 || units % threads == 0 || units >= 2 * threads;
    step = whole && n.R <= kFewRows ? (units + threads - 1) / threads : 1;
  }
  int64_t partials(const CachedShape& n, int threads) const { return whole ? threads * kQueries : n.R * n.H; }
};

template <class S>
void attend(const Call& call, const CachedCall<S>& given, const Cut& cut) {
  const int64_t queries = given.n.R * given.n.group;
  if (cut.whole)
    return parallel_for(call, (cut.units + cut.step - 1) / cut.step, [=](int64_t task, int worker) {
      int64_t first = task * cut.step, last = first + cut.step < cut.units ? first + cut.step : cut.units;
      while (first < last) {
        const int64_t g = first / cut.blocks, block = first % cut.blocks;
        const int64_t count = last - first < cut.blocks - block ? last - first : cut.blocks - block;
        const int64_t end = (block + count) * kQueries;
        attend_queries(given, g, block * kQueries, end < queries ? end : queries, 0, given.n.ranges, worker);
        first += count;
      }
    });
  parallel_for(call, cut.units * given.n.ranges, [=](int64_t task, int worker) {
    const int64_t unit = task / given.n.ranges, range = task % given.n.ranges;
    const int64_t first = unit % cut.blocks * kQueries, end = first + kQueries;
    attend_queries(given, unit / cut.blocks, first, end < queries ? end : queries, range, range + 1, worker);
  });
  parallel_for(call, given.n.R, [=](int64_t r, int) {
    for (int64_t place = r * given.n.H; place < (r + 1) * given.n.H; place++)
      combine_ranges(given, given.prefix(r), place, place);
  });
}

struct CachedWorkspace {
  float *queries, *records;
  CachedWorkspace(const CachedShape& n, const Cut& cut, int threads, Carver& carve)
      : queries(carve.take<float>(threads * kQueries * kQueryFloats * n.D)),
        records(carve.take<float>(cut.partials(n, threads) * n.ranges * Partials::size(n.D))) {}
};

}  // namespace

size_t attention_cached_workspace(const Machine& machine, In q, In key_cache, In, In, In, In, In, Out, double) {
  const CachedShape n(q, key_cache);
  Carver carve(nullptr);
  CachedWorkspace(n, Cut(n, machine.threads), machine.threads, carve);
  return carve.used;
}

void attention_cached(const Call& call, In q, In key_cache, In value_cache, In sequence, In position, In first_key,
                      In branch, Out out, double scale) {
  const CachedShape n(q, key_cache);
  const int threads = call.parallel ? call.parallel->threads : 1;
  const Cut cut(n, threads);
  Carver carve(call.workspace);
  const CachedWorkspace workspace(n, cut, threads, carve);
  const auto attend_stored = [&]<class S>() {
    const auto rows = [](const View& view) { return static_cast<const int32_t*>(view.data); };
    attend<S>(call,
              {.n = n,
               .q = static_cast<const S*>(q.data),
               .keys = static_cast<const S*>(key_cache.data),
               .values = static_cast<const S*>(value_cache.data),
               .out = static_cast<S*>(out.data),
               .sequence = rows(sequence),
               .position = rows(position),
               .first_key = rows(first_key),
               .branch = rows(branch),
               .branch_length = given(branch) ? last_dimension(branch) : 0,
               .scale = static_cast<float>(scale),
               .whole = cut.whole,
               .queries = workspace.queries,
               .partials = {workspace.records, n.D, n.ranges}},
              cut);
  };
  if (q.dtype == DType::bf16)
    attend_stored.template operator()<bf16>();
  else
    attend_stored.template operator()<float>();
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
