// Gradients of causal attention, probabilities recomputed from the log-sum-exp: FlashAttention-2 (arXiv 2307.08691).
// One kernel walks over queries for each tile of keys, another over keys for each tile of queries: two products more
// than adding dq up across blocks would take, but every sum has one order.
#include "attention_tile.cuh"
#include "attention_wide.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kTile = kAttentionWarps * kRowsPerWarp;  // rows whose gradients a block holds
constexpr int kStep = 32;                              // rows of the other side per step
constexpr int kParts = kStep / 8;

template <class T>
struct Backward {
  const T *q, *k, *v, *out, *dout;  // (B,T,H,D), k and v (B,T,G,D)
  const int32_t* first_key;         // (B,T) or none
  const float* lse;                 // (B,H,T)
  float* delta;                     // (B,H,T): dout·out
  T *dq, *dk, *dv;
  int64_t B, tokens, H, G;
  int D;
  float scale;
  bool aligned;

  __device__ Rows<const T> of_queries(const T* x, int64_t b, int64_t h) const {
    return head_rows(x, b, h, H, tokens, D, aligned);
  }
  __device__ Rows<const T> of_keys(const T* x, int64_t b, int64_t g) const {
    return head_rows(x, b, g, G, tokens, D, aligned);
  }
};

// delta = Σ_i dout·out, a warp per row.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads) delta_kernel(const __grid_constant__ Backward<T> given) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + threadIdx.x / kWarp;  // of (B,T,H)
  if (row >= given.B * given.tokens * given.H) return;
  float sum = 0;
  for (int i = threadIdx.x % kWarp; i < given.D; i += kWarp)
    sum = fmaf(value_of(given.dout[row * given.D + i]), value_of(given.out[row * given.D + i]), sum);
  sum = warp_sum(sum);
  const int64_t b = row / given.H / given.tokens, t = row / given.H % given.tokens, h = row % given.H;
  if (threadIdx.x % kWarp == 0) given.delta[(b * given.H + h) * given.tokens + t] = sum;
}

// exp(scale·score − lse), 0 where the key is not seen.
__device__ __forceinline__ float probability(float score, float scale, float lse, bool visible) {
  return visible ? ptx::exp2_approximate(fmaf(score, scale * kLog2E, -lse * kLog2E)) : 0;
}

// dk = Σ dscoreᵀ·q and dv = Σ pᵀ·dout over the heads that share these keys and the queries that see them. One block per
// 64 keys of a (b, g).
template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionThreads) keys_kernel(const __grid_constant__ Backward<T> given) {
  using Shape = Tile<T, kWidth>;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float lse[kStep], delta[kStep];
  __shared__ int first[kStep];
  T* keys = reinterpret_cast<T*>(shared);
  T* values = keys + kTile * Shape::kStride;
  T* queries = values + kTile * Shape::kStride;
  T* gradients = queries + kStep * Shape::kStride;

  const int64_t groups = given.B * given.G;
  const int64_t b = blockIdx.x % groups / given.G, g = blockIdx.x % groups % given.G;
  const int64_t start = blockIdx.x / groups * kTile, last = min(start + kTile, given.tokens) - 1;
  load_tile<kTile, kWidth>(keys, given.of_keys(given.k, b, g), start);
  load_tile<kTile, kWidth>(values, given.of_keys(given.v, b, g), start);

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  T* my_keys = keys + warp * kRowsPerWarp * Shape::kStride;
  T* my_values = values + warp * kRowsPerWarp * Shape::kStride;
  const int64_t rows[2] = {start + warp * kRowsPerWarp + lane / 4, start + warp * kRowsPerWarp + lane / 4 + 8};
  float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
  const int64_t group = given.H / given.G;
  for (int64_t h = g * group; h < (g + 1) * group; h++) {
    const int64_t row0 = (b * given.H + h) * given.tokens;
    for (int64_t query = start / kStep * kStep; query < given.tokens; query += kStep) {
      const int visible_from = first_visible(given.first_key, b, query + lane, given.tokens);
      if (__reduce_min_sync(~0u, visible_from) > last) continue;  // none of these sees any of our keys
      __syncthreads();                                            // every warp is done with the step before
      if (warp == 0) {
        const bool inside = query + lane < given.tokens;
        first[lane] = visible_from;
        lse[lane] = inside ? given.lse[row0 + query + lane] : 0;
        delta[lane] = inside ? given.delta[row0 + query + lane] : 0;
      }
      load_tile<kStep, kWidth>(queries, given.of_queries(given.q, b, h), query);
      load_tile<kStep, kWidth>(gradients, given.of_queries(given.dout, b, h), query);
      ptx::commit_copies();
      ptx::wait_copies<0>();
      __syncthreads();

      float p[kParts][4] = {}, dscores[kParts][4] = {};
      multiply_rows<kWidth>(p, my_keys, queries);
      multiply_rows<kWidth>(dscores, my_values, gradients);
      for (int j = 0; j < kParts; j++) {
        for (int e = 0; e < 4; e++) {
          const int column = 8 * j + 2 * (lane % 4) + e % 2;
          const int64_t key = rows[e / 2];
          const bool visible = key <= query + column && key >= first[column];
          p[j][e] = probability(p[j][e], given.scale, lse[column], visible);
          dscores[j][e] = p[j][e] * (dscores[j][e] - delta[column]) * given.scale;
        }
      }
      multiply_weights<kWidth>(dv, p, gradients);
      multiply_weights<kWidth>(dk, dscores, queries);
    }
  }
  ptx::wait_copies<0>();
  __syncthreads();  // of a block whose keys no query sees: the tiles are still being written
  const int64_t mine = start + warp * kRowsPerWarp;
  store_fragment<kWidth>(head_rows(given.dk, b, g, given.G, given.tokens, given.D, given.aligned), mine, my_keys, dk);
  store_fragment<kWidth>(head_rows(given.dv, b, g, given.G, given.tokens, given.D, given.aligned), mine, my_values, dv);
}

// dq = Σ dscore·k over the keys seen. One block per 64 queries of a head, the latest first.
template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionThreads) queries_kernel(const __grid_constant__ Backward<T> given) {
  using Shape = Tile<T, kWidth>;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ int earliest[kAttentionWarps];
  T* queries = reinterpret_cast<T*>(shared);
  T* gradients = queries + kTile * Shape::kStride;
  T* keys = gradients + kTile * Shape::kStride;
  T* values = keys + kStep * Shape::kStride;

  const int64_t heads = given.B * given.H, tiles = ceil_div(given.tokens, kTile);
  const int64_t b = blockIdx.x % heads / given.H, h = blockIdx.x % heads % given.H, g = h * given.G / given.H;
  const int64_t start = (tiles - 1 - blockIdx.x / heads) * kTile, last = min(start + kTile, given.tokens) - 1;
  const int64_t row0 = (b * given.H + h) * given.tokens;
  load_tile<kTile, kWidth>(queries, given.of_queries(given.q, b, h), start);
  load_tile<kTile, kWidth>(gradients, given.of_queries(given.dout, b, h), start);

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  T* my_queries = queries + warp * kRowsPerWarp * Shape::kStride;
  int64_t rows[2];
  int first[2];
  float lse[2], delta[2];
  for (int i = 0; i < 2; i++) {
    rows[i] = start + warp * kRowsPerWarp + lane / 4 + 8 * i;
    first[i] = first_visible(given.first_key, b, rows[i], given.tokens);
    lse[i] = rows[i] < given.tokens ? given.lse[row0 + rows[i]] : 0;
    delta[i] = rows[i] < given.tokens ? given.delta[row0 + rows[i]] : 0;
  }
  const int warp_earliest = __reduce_min_sync(~0u, min(first[0], first[1]));
  if (lane == 0) earliest[warp] = warp_earliest;
  __syncthreads();
  int64_t key = INT32_MAX;
  for (const int candidate : earliest) key = min(key, static_cast<int64_t>(candidate));

  float dq[kWidth / 8][4] = {};
  for (key = key / kStep * kStep; key <= last; key += kStep) {
    __syncthreads();  // every warp is done with the step before
    load_tile<kStep, kWidth>(keys, given.of_keys(given.k, b, g), key);
    load_tile<kStep, kWidth>(values, given.of_keys(given.v, b, g), key);
    ptx::commit_copies();
    ptx::wait_copies<0>();
    __syncthreads();
    float p[kParts][4] = {}, dscores[kParts][4] = {};
    multiply_rows<kWidth>(p, my_queries, keys);
    multiply_rows<kWidth>(dscores, gradients + warp * kRowsPerWarp * Shape::kStride, values);
    for (int j = 0; j < kParts; j++) {
      for (int e = 0; e < 4; e++) {
        const int64_t column = key + 8 * j + 2 * (lane % 4) + e % 2;
        const bool visible = column <= rows[e / 2] && column >= first[e / 2];
        p[j][e] = probability(p[j][e], given.scale, lse[e / 2], visible);
        dscores[j][e] = p[j][e] * (dscores[j][e] - delta[e / 2]) * given.scale;
      }
    }
    multiply_weights<kWidth>(dq, dscores, keys);
  }
  store_fragment<kWidth>(head_rows(given.dq, b, h, given.H, given.tokens, given.D, given.aligned),
                         start + warp * kRowsPerWarp, my_queries, dq);
}

void attention_backward(const Call& call, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk,
                        Out dv, double scale) {
  const AttentionShape n(q, k);
  if (n.D > kWidestTile) return attention_wide_backward(call, q, k, v, first_key, out, lse, dout, dq, dk, dv, scale);
  dispatch_width(q, n.D, [&]<class T, int kWidth>(Element<T>, std::integral_constant<int, kWidth>) {
    const bool aligned = n.D % Tile<T, kWidth>::kVector == 0 &&
                         starts_on_16_bytes({q.data, k.data, v.data, dout.data, dq.data, dk.data, dv.data});
    const Backward<T> arguments{.q = elements<T>(q),
                                .k = elements<T>(k),
                                .v = elements<T>(v),
                                .out = elements<T>(out),
                                .dout = elements<T>(dout),
                                .first_key = elements<int32_t>(first_key),
                                .lse = elements<float>(lse),
                                .delta = static_cast<float*>(call.workspace),
                                .dq = elements<T>(dq),
                                .dk = elements<T>(dk),
                                .dv = elements<T>(dv),
                                .B = n.B,
                                .tokens = n.T,
                                .H = n.H,
                                .G = n.G,
                                .D = static_cast<int>(n.D),
                                .scale = static_cast<float>(scale),
                                .aligned = aligned};
    const size_t shared = Tile<T, kWidth>::bytes(2 * kTile + 2 * kStep);
    const int64_t tiles = ceil_div(n.T, kTile);
    launch_attention(call, delta_kernel<T>, ceil_div(n.B * n.T * n.H, kAttentionWarps), 0, arguments);
    launch_attention(call, keys_kernel<T, kWidth>, n.B * n.G * tiles, shared, arguments);
    launch_attention(call, queries_kernel<T, kWidth>, n.B * n.H * tiles, shared, arguments);
  });
}

size_t attention_backward_workspace(const Machine&, In q, In k, In, In, In, In, In, Out, Out, Out, double) {
  const AttentionShape n(q, k);
  return n.D > kWidestTile ? attention_wide_backward_workspace(n) : sizeof(float) * n.B * n.H * n.T;
}

}  // namespace

void fill_attention_backward(Kernels& table) {
  table.attention_backward = {attention_backward, attention_backward_workspace};
}

}  // namespace foretoken::cuda
