// The key/value cache: appending, and one query row against it.
//
// The keys of a sequence are cut at multiples of kRange positions; a block takes one range of one (row, g), and the
// ranges of a row are put together in order. So a row's bits depend on its own prefix alone, whatever else is in the
// batch, and one long sequence still keeps many multiprocessors busy. Where keys lie out of order, as those of a tree's
// branches do, only their addresses change.
#include "quad.cuh"
#include "reduce.cuh"
#include "row_copy.cuh"
#include "table.h"
#include "workspace.h"

namespace foretoken::cuda {
namespace {

constexpr int kRange = 256;
constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kColumns = kQuad * kWarp;  // of D that a warp takes at a time
static_assert(kColumns == kThreads, "one column a thread when the warps' sums are added");

struct CacheShape {
  int64_t slots, G, capacity, D;
  explicit CacheShape(const View& cache)
      : slots(cache.shape[0]), G(cache.shape[1]), capacity(cache.shape[2]), D(cache.shape[3]) {}
  __device__ bool holds(int64_t sequence, int64_t position) const {
    return sequence >= 0 && sequence < slots && position >= 0 && position < capacity;
  }
  __device__ int64_t offset(int64_t sequence, int64_t g, int64_t position) const {
    return ((sequence * G + g) * capacity + position) * D;
  }
};

// ---- cache_append --------------------------------------------------------------------------------------------------

// One warp a row and g. `bytes` are those of D elements.
__global__ void __launch_bounds__(kThreads)
    cache_append_kernel(const char* k /*(R,G,D)*/, const char* v /*(R,G,D)*/, const int32_t* sequence /*(R)*/,
                        const int32_t* position /*(R)*/, char* key_cache, char* value_cache /*(slots,G,capacity,D)*/,
                        int64_t R, CacheShape n, int64_t bytes) {
  const int64_t from = thread_index() / kWarp, r = from / n.G, g = from % n.G;
  if (r >= R || !n.holds(sequence[r], position[r])) return;
  const int64_t to = n.offset(sequence[r], g, position[r]) / n.D;
  warp_copy(key_cache + to * bytes, k + from * bytes, bytes);
  warp_copy(value_cache + to * bytes, v + from * bytes, bytes);
}

void cache_append(const Call& call, In k, In v, In sequence, In position, InOut key_cache, InOut value_cache) {
  const CacheShape n(key_cache);
  const int64_t R = element_count(sequence);
  launch(call, ceil_div(R * n.G, kWarps), kThreads, cache_append_kernel, elements<char>(k), elements<char>(v),
         elements<int32_t>(sequence), elements<int32_t>(position), elements<char>(key_cache),
         elements<char>(value_cache), R, n, n.D * bytes_per_element(k.dtype));
}

// ---- attention_cached: what a row sees -----------------------------------------------------------------------------

struct Rows {
  const int32_t *sequence, *position, *first_key;  // (R) each; first_key may be nullptr
  int64_t H;
};

// The keys [first, last] of a row's sequence; none (last < first) when it is out of range.
struct Prefix {
  int64_t slot, first, last;

  __device__ Prefix(const Rows& rows, const CacheShape& n, int64_t r)
      : slot(rows.sequence[r]), first(rows.first_key ? rows.first_key[r] : 0), last(rows.position[r]) {
    if (!n.holds(slot, last)) last = -1;
    if (first < 0) first = 0;
  }
};

// Where the last positions of the rows lie in their slots: those of a row's last A at places[r].
struct Branches {
  const int32_t* places;  // (R,A)
  int64_t A;

  __device__ int64_t place(int64_t r, int64_t s, int64_t last, int64_t capacity) const {
    const int64_t i = s - last + A - 1;
    if (i < 0) return s;
    const int64_t place = places[r * A + i];
    return place < 0 ? 0 : place < capacity ? place : capacity - 1;
  }
};

// The elements before key s of a range: of keys one after the other, and of keys at places of their own.
struct InOrder {
  int64_t D;
  __device__ int64_t operator()(int s) const { return s * D; }
};
struct Scattered {
  const int* places;  // (kRange), shared
  int64_t D;
  __device__ int64_t operator()(int s) const { return places[s] * D; }
};

// Of one range: softmax relative to its own maximum. (R,H,ranges) each, sums (R,H,ranges,D).
struct Partials {
  float *largest, *total, *sums;
  int64_t ranges;

  Partials(Workspace& workspace, const View& q, const CacheShape& n) : ranges(ceil_div(n.capacity, kRange)) {
    const int64_t count = q.shape[0] * q.shape[1] * ranges;
    largest = workspace.take<float>(count);
    total = workspace.take<float>(count);
    sums = workspace.take<float>(count * n.D);
  }
};

// ---- one range -----------------------------------------------------------------------------------------------------

// scores[s] = scale·q·key s for s in [first, end), each by one warp; key s (D) at keys + offset(s).
template <class T, class Offset>
__device__ void score_keys(const T* q, const T* keys, Offset offset, int first, int end, int64_t D, float scale,
                           float* scores) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int64_t i = kQuad * lane, column = 0; column < D; i += kColumns, column += kColumns) {
    const Quad query = load_quad(q + i, D - i);
    for (int s = warp; s < end; s += kWarps) {
      if (s < first) continue;
      const float score = scale * warp_sum(dot(query, load_quad(keys + offset(s) + i, D - i), 0));
      if (lane == 0) scores[s] = column == 0 ? score : scores[s] + score;
    }
  }
  __syncthreads();  // the scores are read by all
}

// The largest of scores[first … end − 1], which become exp(score − largest); in total, their sum.
__device__ float soften(float* scores, int first, int end, float* shared, float& total) {
  float largest = -INFINITY;
  for (int s = first + threadIdx.x; s < end; s += kThreads) largest = fmaxf(largest, scores[s]);
  largest = block_reduce(largest, Largest());
  float sum = 0;
  for (int s = threadIdx.x; s < end; s += kThreads) {
    if (s < first) continue;
    scores[s] = expf(scores[s] - largest);
    sum += scores[s];
  }
  total = block_sum<kThreads>(sum, shared);
  return largest;
}

// sums = Σ_s weights[s]·value s, at values + offset(s): a warp takes every kWarps-th key, then the warps are added in
// order.
template <class T, class Offset>
__device__ void gather_values(const float* weights, const T* values, Offset offset, int first, int end, int64_t D,
                              float* sums) {
  __shared__ float4 warp_sums[kWarps][kWarp];  // a lane's columns in one store: four would share banks
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int64_t column = 0; column < D; column += kColumns) {
    const int64_t i = column + kQuad * lane;
    Quad sum = {};
    for (int s = warp; s < end; s += kWarps) {
      if (s < first) continue;
      const float weight = weights[s];
      sum = map([=](float value, float before) { return fmaf(weight, value, before); },
                load_quad(values + offset(s) + i, D - i), sum);
    }
    warp_sums[warp][lane] = make_float4(sum.v[0], sum.v[1], sum.v[2], sum.v[3]);
    __syncthreads();  // all warps have stored
    float all = 0;
    for (int w = 0; w < kWarps; w++) all += reinterpret_cast<const float*>(warp_sums[w])[threadIdx.x];
    if (column + threadIdx.x < D) sums[column + threadIdx.x] = all;
    __syncthreads();  // before warp_sums is written again
  }
}

// The group's heads over the keys [first, end) of one range.
template <class T, class Offset>
__device__ void attend_keys(const T* q /*(R,H,D)*/, const T* keys, const T* values, Offset offset, int first, int end,
                            int64_t r, int64_t g, int64_t range, const Rows& rows, const CacheShape& n, float scale,
                            const Partials& partials) {
  __shared__ float scores[kRange], shared[kWarps];
  const int64_t group = rows.H / n.G;
  for (int64_t h = g * group; h < (g + 1) * group; h++) {
    const int64_t row = r * rows.H + h, place = row * partials.ranges + range;
    score_keys(q + row * n.D, keys, offset, first, end, n.D, scale, scores);
    float total;
    const float largest = soften(scores, first, end, shared, total);
    gather_values(scores, values, offset, first, end, n.D, partials.sums + place * n.D);
    if (threadIdx.x > 0) continue;
    partials.largest[place] = largest;
    partials.total[place] = total;
  }
}

// A block a row, g and range.
template <class T, bool kBranches>
__global__ void __launch_bounds__(kThreads)
    attend_range_kernel(const T* q /*(R,H,D)*/, const T* key_cache, const T* value_cache /*(slots,G,capacity,D)*/,
                        Rows rows, Branches branches, CacheShape n, float scale, Partials partials) {
  const int64_t range = blockIdx.x % partials.ranges, g = blockIdx.x / partials.ranges % n.G,
                r = blockIdx.x / partials.ranges / n.G, base = range * kRange;
  const Prefix prefix(rows, n, r);
  if (prefix.first > prefix.last || prefix.last < base || prefix.first >= base + kRange) return;
  const int first = prefix.first > base ? static_cast<int>(prefix.first - base) : 0;
  const int end = prefix.last + 1 < base + kRange ? static_cast<int>(prefix.last + 1 - base) : kRange;
  if constexpr (kBranches) {
    __shared__ int places[kRange];
    for (int s = first + threadIdx.x; s < end; s += kThreads)
      places[s] = static_cast<int>(branches.place(r, base + s, prefix.last, n.capacity));
    __syncthreads();  // the places are read by all
    const int64_t offset = n.offset(prefix.slot, g, 0);
    attend_keys(q, key_cache + offset, value_cache + offset, Scattered{places, n.D}, first, end, r, g, range, rows, n,
                scale, partials);
  } else {
    const int64_t offset = n.offset(prefix.slot, g, base);
    attend_keys(q, key_cache + offset, value_cache + offset, InOrder{n.D}, first, end, r, g, range, rows, n, scale,
                partials);
  }
}

// ---- all ranges ----------------------------------------------------------------------------------------------------

// out = Σ sums·exp(largest − m) / Σ total·exp(largest − m) over the ranges, m the largest of all. A block a row and h.
template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_ranges_kernel(Partials partials, Rows rows, CacheShape n, T* out /*(R,H,D)*/) {
  const int64_t row = blockIdx.x;
  const Prefix prefix(rows, n, row / rows.H);
  const bool none = prefix.first > prefix.last;
  const int64_t base = row * partials.ranges, first = base + prefix.first / kRange,
                last = none ? first - 1 : base + prefix.last / kRange;
  float m = -INFINITY;
  for (int64_t i = first; i <= last; i++) m = fmaxf(m, partials.largest[i]);
  for (int64_t column = threadIdx.x; column < n.D; column += kThreads) {
    float sum = 0, total = 0;
    for (int64_t i = first; i <= last; i++) {
      const float weight = expf(partials.largest[i] - m);
      sum = fmaf(weight, partials.sums[i * n.D + column], sum);
      total = fmaf(weight, partials.total[i], total);
    }
    store_value(out + row * n.D + column, none ? 0.0f : sum / total);
  }
}

void attention_cached(const Call& call, In q, In key_cache, In value_cache, In sequence, In position, In first_key,
                      In branch, Out out, double scale) {
  const int64_t R = q.shape[0], H = q.shape[1];
  const CacheShape n(key_cache);
  Workspace workspace(call.workspace);
  const Partials partials(workspace, q, n);
  const Rows rows = {elements<int32_t>(sequence), elements<int32_t>(position), elements<int32_t>(first_key), H};
  const Branches branches = {elements<int32_t>(branch), last_dimension(branch)};
  dispatch({q.dtype}, [&]<class T>(Element<T>) {
    const auto kernel = given(branch) ? attend_range_kernel<T, true> : attend_range_kernel<T, false>;
    launch(call, R * n.G * partials.ranges, kThreads, kernel, elements<T>(q), elements<T>(key_cache),
           elements<T>(value_cache), rows, branches, n, static_cast<float>(scale), partials);
    launch(call, R * H, kThreads, combine_ranges_kernel<T>, partials, rows, n, elements<T>(out));
  });
}

size_t attention_cached_workspace(const Machine&, In q, In key_cache, In, In, In, In, In, Out, double) {
  Workspace workspace(nullptr);
  Partials(workspace, q, CacheShape(key_cache));
  return workspace.bytes();
}

}  // namespace

void fill_attention_cached(Kernels& table) {
  table.cache_append = {cache_append};
  table.attention_cached = {attention_cached, attention_cached_workspace};
}

}  // namespace foretoken::cuda
