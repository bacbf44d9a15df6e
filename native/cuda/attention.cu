// Causal attention with grouped heads, in tiles, without a T×T array: FlashAttention-2 (arXiv 2307.08691).
#include "attention_tile.cuh"
#include "attention_wide.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kQueries = kAttentionWarps * kRowsPerWarp;  // rows of a query tile

// Rows of a key tile: what leaves two blocks to a multiprocessor at D = 128.
template <class T>
constexpr int kKeys = std::is_same_v<T, float> ? 32 : 64;

template <class T>
struct Forward {
  const T *q, *k, *v;        // (B,T,H,D), (B,T,G,D) twice
  const int32_t* first_key;  // (B,T) or none
  T* out;                    // (B,T,H,D)
  float* lse;                // (B,H,T)
  int64_t B, tokens, H, G;
  int D;
  float scale_log2;  // scores are kept in powers of two
  bool aligned;
};

// A row's share of the softmax so far: its largest score and its sum, for the two rows of a thread.
struct RunningSoftmax {
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

  // Turns scores (−∞: not seen) into weights relative to the new maximum, and the output so far to the same scale.
  template <int kParts, int kOutputs>
  __device__ void update(float (&scores)[kParts][4], float (&out)[kOutputs][4]) {
    for (int row = 0; row < 2; row++) {
      float most = largest[row];
      for (int j = 0; j < kParts; j++) most = fmaxf(most, fmaxf(scores[j][2 * row], scores[j][2 * row + 1]));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      const float base = most == -INFINITY ? 0 : most;  // nothing seen yet: every weight is 2^−∞
      const float rescale = ptx::exp2_approximate(largest[row] - base);
      float sum = 0;
      for (int j = 0; j < kParts; j++) {
        for (int e = 2 * row; e < 2 * row + 2; e++) {
          scores[j][e] = ptx::exp2_approximate(scores[j][e] - base);
          sum += scores[j][e];
        }
      }
      largest[row] = most;
      total[row] = total[row] * rescale + sum;  // of this thread's columns; joined at the end
      for (int j = 0; j < kOutputs; j++) out[j][2 * row] *= rescale, out[j][2 * row + 1] *= rescale;
    }
  }

  __device__ void join() {
    for (float& sum : total) {
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
    }
  }
};

// One block per 64 queries of a head, the latest first: they see the most keys.
template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionThreads) attention_kernel(const __grid_constant__ Forward<T> given) {
  using Shape = Tile<T, kWidth>;
  constexpr int kParts = kKeys<T> / 8;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ int earliest[kAttentionWarps];
  T* queries = reinterpret_cast<T*>(shared);
  T* keys = queries + kQueries * Shape::kStride;
  T* values = keys + kKeys<T> * Shape::kStride;

  const int64_t heads = given.B * given.H, tiles = ceil_div(given.tokens, kQueries);
  const int64_t b = blockIdx.x % heads / given.H, h = blockIdx.x % heads % given.H, g = h * given.G / given.H;
  const int64_t start = (tiles - 1 - blockIdx.x / heads) * kQueries;
  const auto q_rows = head_rows(given.q, b, h, given.H, given.tokens, given.D, given.aligned);
  const auto k_rows = head_rows(given.k, b, g, given.G, given.tokens, given.D, given.aligned);
  const auto v_rows = head_rows(given.v, b, g, given.G, given.tokens, given.D, given.aligned);

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t rows[2] = {start + warp * kRowsPerWarp + lane / 4, start + warp * kRowsPerWarp + lane / 4 + 8};
  const int first[2] = {first_visible(given.first_key, b, rows[0], given.tokens),
                        first_visible(given.first_key, b, rows[1], given.tokens)};
  const int warp_earliest = __reduce_min_sync(~0u, min(first[0], first[1]));
  if (lane == 0) earliest[warp] = warp_earliest;
  load_tile<kQueries, kWidth>(queries, q_rows, start);
  __syncthreads();  // `earliest` is there
  int64_t tile = INT32_MAX;
  for (const int key : earliest) tile = min(tile, static_cast<int64_t>(key));
  tile = tile / kKeys<T>;
  const int64_t last_tile = min(start + kQueries, given.tokens) - 1;

  float out[kWidth / 8][4] = {};
  RunningSoftmax softmax;
  load_tile<kKeys<T>, kWidth>(keys, k_rows, tile * kKeys<T>);
  ptx::commit_copies();
  for (; tile <= last_tile / kKeys<T>; tile++) {
    ptx::wait_copies<0>();
    __syncthreads();  // the keys are there, and every warp is done with the values before
    load_tile<kKeys<T>, kWidth>(values, v_rows, tile * kKeys<T>);
    ptx::commit_copies();
    float scores[kParts][4] = {};
    multiply_rows<kWidth>(scores, queries + warp * kRowsPerWarp * Shape::kStride, keys);
    for (int j = 0; j < kParts; j++) {
      for (int e = 0; e < 4; e++) {
        const int64_t key = tile * kKeys<T> + 8 * j + 2 * (lane % 4) + e % 2;
        const bool visible = key <= rows[e / 2] && key >= first[e / 2];
        scores[j][e] = visible ? scores[j][e] * given.scale_log2 : -INFINITY;
      }
    }
    ptx::wait_copies<0>();
    __syncthreads();  // the values are there, and every warp is done with the keys
    if (tile < last_tile / kKeys<T>) load_tile<kKeys<T>, kWidth>(keys, k_rows, (tile + 1) * kKeys<T>);
    ptx::commit_copies();
    softmax.update(scores, out);
    multiply_weights<kWidth>(out, scores, values);
  }
  ptx::wait_copies<0>();

  softmax.join();
  for (int row = 0; row < 2; row++)
    if (lane % 4 == 0 && rows[row] < given.tokens)
      given.lse[(b * given.H + h) * given.tokens + rows[row]] = softmax.largest[row] * kLn2 + logf(softmax.total[row]);
  const auto out_rows = head_rows(given.out, b, h, given.H, given.tokens, given.D, given.aligned);
  store_fragment<kWidth>(out_rows, start + warp * kRowsPerWarp, queries + warp * kRowsPerWarp * Shape::kStride, out,
                         1 / softmax.total[0], 1 / softmax.total[1]);
}

void attention(const Call& call, In q, In k, In v, In first_key, Out out, Out lse, double scale) {
  const AttentionShape n(q, k);
  if (n.D > kWidestTile) return attention_wide(call, q, k, v, first_key, out, lse, scale);
  dispatch_width(q, n.D, [&]<class T, int kWidth>(Element<T>, std::integral_constant<int, kWidth>) {
    const Forward<T> arguments{
        .q = elements<T>(q),
        .k = elements<T>(k),
        .v = elements<T>(v),
        .first_key = elements<int32_t>(first_key),
        .out = elements<T>(out),
        .lse = elements<float>(lse),
        .B = n.B,
        .tokens = n.T,
        .H = n.H,
        .G = n.G,
        .D = static_cast<int>(n.D),
        .scale_log2 = static_cast<float>(scale) * kLog2E,
        .aligned = n.D % Tile<T, kWidth>::kVector == 0 && starts_on_16_bytes({q.data, k.data, v.data, out.data})};
    const size_t shared = Tile<T, kWidth>::bytes(kQueries + 2 * kKeys<T>);
    launch_attention(call, attention_kernel<T, kWidth>, n.B * n.H * ceil_div(n.T, kQueries), shared, arguments);
  });
}

size_t attention_workspace(const Machine&, In q, In k, In, In, Out, Out, double) {
  const AttentionShape n(q, k);
  return n.D > kWidestTile ? attention_wide_workspace(n) : 0;
}

}  // namespace

void fill_attention(Kernels& table) { table.attention = {attention, attention_workspace}; }

}  // namespace foretoken::cuda
