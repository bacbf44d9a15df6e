// Attention with wide heads; formulas in native/kernels.h, loops as in native/cpu/generic/attention.cpp.
#include "attention_wide.cuh"

namespace foretoken::cuda {
namespace {

template <class T>
struct Wide {
  const T *q, *k, *v, *out, *dout;  // (B,T,H,D), k and v (B,T,G,D)
  const int32_t* first_key;         // (B,T) or none
  const float* lse;                 // (B,H,T)
  T *y, *dq, *dk, *dv;              // y: the forward's output
  float* new_lse;
  float* sums;  // the workspace: one row of D per warp; for dk and dv two
  int64_t B, tokens, H, G, D;
  float scale;
};

__device__ __forceinline__ int64_t warp_of_grid() {
  return static_cast<int64_t>(blockIdx.x) * kAttentionWarps + threadIdx.x / kWarp;
}

// Σ_i a·b over a row, given to every lane.
template <class T>
__device__ float dot(const T* a, const T* b, int64_t D) {
  float sum = 0;
  for (int64_t i = threadIdx.x % kWarp; i < D; i += kWarp) sum = fmaf(value_of(a[i]), value_of(b[i]), sum);
  return warp_sum(sum);
}

// sums = factor·sums + weight·x: each lane its own elements, so no lane waits for another.
template <class T>
__device__ void mix(float* sums, float factor, float weight, const T* x, int64_t D) {
  for (int64_t i = threadIdx.x % kWarp; i < D; i += kWarp) sums[i] = fmaf(weight, value_of(x[i]), factor * sums[i]);
}

__device__ void clear(float* sums, int64_t D) {
  for (int64_t i = threadIdx.x % kWarp; i < D; i += kWarp) sums[i] = 0;
}

template <class T>
__device__ void store(T* to, const float* sums, float factor, int64_t D) {
  for (int64_t i = threadIdx.x % kWarp; i < D; i += kWarp) store_value(to + i, sums[i] * factor);
}

template <class T>
__global__ void __launch_bounds__(kAttentionThreads) wide_kernel(const __grid_constant__ Wide<T> n) {
  const int64_t row = warp_of_grid();  // of (B,T,H)
  if (row >= n.B * n.tokens * n.H) return;
  const int64_t b = row / n.H / n.tokens, t = row / n.H % n.tokens, h = row % n.H, g = h * n.G / n.H;
  float* sums = n.sums + row * n.D;
  clear(sums, n.D);
  float largest = -INFINITY, total = 0;
  for (int64_t s = first_visible(n.first_key, b, t, n.tokens); s <= t; s++) {
    const int64_t key = ((b * n.tokens + s) * n.G + g) * n.D;
    const float score = n.scale * dot(n.q + row * n.D, n.k + key, n.D), before = largest;
    largest = fmaxf(largest, score);
    const float rescale = expf(before - largest), weight = expf(score - largest);
    mix(sums, rescale, weight, n.v + key, n.D);
    total = total * rescale + weight;
  }
  store(n.y + row * n.D, sums, 1 / total, n.D);
  if (threadIdx.x % kWarp == 0) n.new_lse[(b * n.H + h) * n.tokens + t] = largest + logf(total);
}

// The probability that query row (b,t,h) gives key s, and the gradient of its score.
template <class T>
struct Pair {
  float p, dscore;
  __device__ Pair(const Wide<T>& n, int64_t b, int64_t t, int64_t h, int64_t query, int64_t key) {
    const float delta = dot(n.dout + query, n.out + query, n.D);
    p = expf(n.scale * dot(n.q + query, n.k + key, n.D) - n.lse[(b * n.H + h) * n.tokens + t]);
    dscore = n.scale * p * (dot(n.dout + query, n.v + key, n.D) - delta);
  }
};

template <class T>
__global__ void __launch_bounds__(kAttentionThreads) wide_queries_kernel(const __grid_constant__ Wide<T> n) {
  const int64_t row = warp_of_grid();  // of (B,T,H)
  if (row >= n.B * n.tokens * n.H) return;
  const int64_t b = row / n.H / n.tokens, t = row / n.H % n.tokens, h = row % n.H, g = h * n.G / n.H;
  float* sums = n.sums + row * n.D;
  clear(sums, n.D);
  for (int64_t s = first_visible(n.first_key, b, t, n.tokens); s <= t; s++) {
    const int64_t key = ((b * n.tokens + s) * n.G + g) * n.D;
    mix(sums, 1, Pair<T>(n, b, t, h, row * n.D, key).dscore, n.k + key, n.D);
  }
  store(n.dq + row * n.D, sums, 1, n.D);
}

template <class T>
__global__ void __launch_bounds__(kAttentionThreads) wide_keys_kernel(const __grid_constant__ Wide<T> n) {
  const int64_t row = warp_of_grid();  // of (B,T,G)
  if (row >= n.B * n.tokens * n.G) return;
  const int64_t b = row / n.G / n.tokens, s = row / n.G % n.tokens, g = row % n.G, group = n.H / n.G;
  float *dk = n.sums + 2 * row * n.D, *dv = dk + n.D;
  clear(dk, n.D);
  clear(dv, n.D);
  for (int64_t h = g * group; h < (g + 1) * group; h++) {
    for (int64_t t = s; t < n.tokens; t++) {
      if (first_visible(n.first_key, b, t, n.tokens) > s) continue;
      const int64_t query = ((b * n.tokens + t) * n.H + h) * n.D;
      const Pair<T> pair(n, b, t, h, query, row * n.D);
      mix(dv, 1, pair.p, n.dout + query, n.D);
      mix(dk, 1, pair.dscore, n.q + query, n.D);
    }
  }
  store(n.dk + row * n.D, dk, 1, n.D);
  store(n.dv + row * n.D, dv, 1, n.D);
}

template <class T>
Wide<T> arguments_of(const Call& call, const AttentionShape& n, In q, In k, In v, In first_key, double scale) {
  Wide<T> arguments{};
  arguments.q = elements<T>(q), arguments.k = elements<T>(k), arguments.v = elements<T>(v);
  arguments.first_key = elements<int32_t>(first_key);
  arguments.sums = static_cast<float*>(call.workspace);
  arguments.B = n.B, arguments.tokens = n.T, arguments.H = n.H, arguments.G = n.G, arguments.D = n.D;
  arguments.scale = static_cast<float>(scale);
  return arguments;
}

}  // namespace

size_t attention_wide_workspace(const AttentionShape& n) { return sizeof(float) * n.B * n.T * n.H * n.D; }

void attention_wide(const Call& call, In q, In k, In v, In first_key, Out out, Out lse, double scale) {
  const AttentionShape n(q, k);
  dispatch({q.dtype}, [&]<class T>(Element<T>) {
    Wide<T> arguments = arguments_of<T>(call, n, q, k, v, first_key, scale);
    arguments.y = elements<T>(out);
    arguments.new_lse = elements<float>(lse);
    launch_attention(call, wide_kernel<T>, ceil_div(n.B * n.T * n.H, kAttentionWarps), 0, arguments);
  });
}

// First dq, then dk and dv, in the same memory.
size_t attention_wide_backward_workspace(const AttentionShape& n) {
  return sizeof(float) * n.B * n.T * n.D * (n.H > 2 * n.G ? n.H : 2 * n.G);
}

void attention_wide_backward(const Call& call, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk,
                             Out dv, double scale) {
  const AttentionShape n(q, k);
  dispatch({q.dtype}, [&]<class T>(Element<T>) {
    Wide<T> arguments = arguments_of<T>(call, n, q, k, v, first_key, scale);
    arguments.out = elements<T>(out), arguments.dout = elements<T>(dout);
    arguments.lse = elements<float>(lse);
    arguments.dq = elements<T>(dq), arguments.dk = elements<T>(dk), arguments.dv = elements<T>(dv);
    launch_attention(call, wide_queries_kernel<T>, ceil_div(n.B * n.T * n.H, kAttentionWarps), 0, arguments);
    launch_attention(call, wide_keys_kernel<T>, ceil_div(n.B * n.T * n.G, kAttentionWarps), 0, arguments);
  });
}

}  // namespace foretoken::cuda
