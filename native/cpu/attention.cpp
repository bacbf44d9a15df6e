// Attention forward in blocks of queries × blocks of keys with a running softmax (FlashAttention-2, arXiv 2307.08691).
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// What one worker computes with; everything across: keys × queries or D × queries.
template <class S>
struct ForwardScratch {
  void* queries;  // packed (D × queries)
  float* scores;  // (keys × queries)
  S* weights;     // packed (keys × queries): probabilities before division by their sum
  float* sums;    // (D × queries)
  float* rows;    // sums turned upright
  float *largest, *total;

  ForwardScratch(const AttentionShape& n, Carver& carve)
      : queries(carve.take<char>(packed_bytes(n.dtype, n.D, kBlockTokens))),
        scores(carve.take<float>(kBlockTokens * kBlockTokens)),
        weights(carve.take<S>(PackedBlock<S>::elements())),
        sums(carve.take<float>(n.D * kBlockTokens)),
        rows(carve.take<float>(n.D * kBlockTokens)),
        largest(carve.take<float>(kBlockTokens)),
        total(carve.take<float>(kBlockTokens)) {}
};

// V turned on its side, block by block: (D × keys) each, kBlockTokens apart.
int64_t sideways_offset(const AttentionShape& n, int64_t b, int64_t g, int64_t block) {
  return ((b * n.G + g) * n.blocks() + block) * n.D * kBlockTokens;
}

template <class S>
void turn_values(const Call& call, const AttentionShape& n, const In& v, S* sideways) {
  parallel_for(call, n.B * n.G * n.blocks(), [&](int64_t task, int) {
    int64_t block = task % n.blocks(), g = task / n.blocks() % n.G, b = task / n.blocks() / n.G;
    transpose(n.dtype, at(v, n.key(b, block * kBlockTokens, g)), n.G * n.D, n.length(block), n.D,
              sideways + sideways_offset(n, b, g, block), kBlockTokens);
  });
}

// Below any score, above the −∞ of hidden keys: a query that has seen nothing yet gets weights exp(−∞) = 0.
constexpr float kNothingSeen = -3e38f;

// One vector of queries against one block of keys: scores become weights, sums so far are rescaled to the new maximum.
template <class S>
void soften(const ForwardScratch<S>& scratch, const AttentionShape& n, const PackedBlock<S>& weights,
            const Visibility* partly, int64_t first_key, int64_t query, Vec scale, bool fresh) {
  Vec before = load(scratch.largest + query), largest = before;
  float* scores = scratch.scores + query;
  for (int64_t s = 0; s < weights.keys; s++) {
    Vec x = mul(scale, load(scores + s * kBlockTokens));
    if (partly) x = where_visible(x, static_cast<float>(first_key + s), partly->first + query, partly->last + query);
    store(scores + s * kBlockTokens, x);
    largest = max(largest, x);
  }
  Vec rescale = exp(sub(before, largest)), total = mul(rescale, load(scratch.total + query));
  for (int64_t s = 0; s < weights.keys; s += 2) {
    Vec even = exp(sub(load(scores + s * kBlockTokens), largest)), odd = zero();
    if (s + 1 < weights.keys) odd = exp(sub(load(scores + (s + 1) * kBlockTokens), largest));
    total = add(add(total, even), odd);
    RowPair<S>(even, odd).store_packed(weights.place(s, query));
  }
  store(scratch.largest + query, largest);
  store(scratch.total + query, total);
  if (fresh) return;
  for (int64_t i = 0; i < n.D; i++) {
    float* sum = scratch.sums + i * kBlockTokens + query;
    store(sum, mul(rescale, load(sum)));
  }
}

// Divides by the sum of weights, turns the block upright and stores it with its logarithms.
template <class S>
void store_outputs(const ForwardScratch<S>& scratch, const AttentionShape& n, int64_t b, int64_t h, int64_t block,
                   const Out& out, const Out& lse) {
  int64_t count = n.length(block), first = block * kBlockTokens;
  for (int64_t query = 0; query < count; query += kWidth) {
    Vec total = load(scratch.total + query);
    for (int64_t i = 0; i < n.D; i++) {
      float* sum = scratch.sums + i * kBlockTokens + query;
      store(sum, div(load(sum), total));
    }
  }
  transpose(DType::f32, scratch.sums, kBlockTokens, n.D, count, scratch.rows, n.D);
  float* log_sums = floats(lse, (b * n.H + h) * n.T + first);
  for (int64_t query = 0; query < count; query++) {
    S* row = static_cast<S*>(at(out, n.query(b, first + query, h)));
    const float* from = scratch.rows + query * n.D;
    for (int64_t i = 0; i < n.D; i += kWidth) store_n(row + i, load_n(from + i, n.D - i), n.D - i);
    log_sums[query] = scratch.largest[query] + __builtin_logf(scratch.total[query]);
  }
}

template <class S>
struct Forward {
  AttentionShape n;
  const In &q, &k, &first_key;
  const S* values;  // sideways
  const Out &out, &lse;
  float scale;

  // The queries of one block of one head.
  void operator()(int64_t b, int64_t h, int64_t block, const ForwardScratch<S>& scratch) const {
    int64_t g = h * n.G / n.H, count = n.length(block), padded = (count + kPanel - 1) / kPanel * kPanel;
    Visibility visible(n, first_key, b, block);
    Matrix queries{at(q, n.query(b, block * kBlockTokens, h)), n.dtype, n.D, count, n.H * n.D, true};
    pack_b(queries, 0, count, scratch.queries);
    for (int64_t i = 0; i < padded; i++) {
      scratch.largest[i] = kNothingSeen;
      scratch.total[i] = 0;
    }
    for (int64_t j = visible.first_block; j <= block; j++) {
      bool fresh = j == visible.first_block;
      PackedBlock<S> weights{scratch.weights, n.length(j)};
      const S* values_block = values + sideways_offset(n, b, g, j);
      gemm_block(n.dtype, at(k, n.key(b, j * kBlockTokens, g)), n.G * n.D, scratch.queries, weights.keys, count, n.D,
                 scratch.scores, kBlockTokens, false);
      for (int64_t query = 0; query < padded; query += kWidth)
        soften(scratch, n, weights, visible.whole(block, j) ? nullptr : &visible, j * kBlockTokens, query,
               broadcast(scale), fresh);
      weights.finish(padded);
      gemm_block(n.dtype, values_block, kBlockTokens, scratch.weights, n.D, count, weights.keys, scratch.sums,
                 kBlockTokens, !fresh);
    }
    store_outputs(scratch, n, b, h, block, out, lse);
  }
};

template <class S>
void forward(const Call& call, const In& q, const In& k, const In& v, const In& first_key, const Out& out,
             const Out& lse, double scale) {
  AttentionShape n(q, k);
  Carver carve(call.workspace);
  S* values = carve.take<S>(sideways_offset(n, n.B, 0, 0));
  Carver one(nullptr);
  ForwardScratch<S>(n, one);
  turn_values(call, n, v, values);
  Forward<S> run{n, q, k, first_key, values, out, lse, static_cast<float>(scale)};
  char* scratch = carve.base + carve.used;
  parallel_for(call, n.blocks() * n.B * n.H, [&](int64_t task, int worker) {
    Carver mine(scratch + worker * one.used);
    int64_t block = n.blocks() - 1 - task / (n.B * n.H), b = task / n.H % n.B;  // the longest first
    run(b, task % n.H, block, ForwardScratch<S>(n, mine));
  });
}

template <class S>
size_t forward_workspace(const Machine& machine, const AttentionShape& n) {
  Carver carve(nullptr), one(nullptr);
  carve.take<S>(sideways_offset(n, n.B, 0, 0));
  ForwardScratch<S>(n, one);
  return carve.used + machine.threads * one.used;
}

}  // namespace

size_t attention_workspace(const Machine& machine, In q, In k, In, In, Out, Out, double) {
  AttentionShape n(q, k);
  return n.dtype == DType::bf16 ? forward_workspace<bf16>(machine, n) : forward_workspace<float>(machine, n);
}

void attention(const Call& call, In q, In k, In v, In first_key, Out out, Out lse, double scale) {
  if (q.dtype == DType::bf16)
    forward<bf16>(call, q, k, v, first_key, out, lse, scale);
  else
    forward<float>(call, q, k, v, first_key, out, lse, scale);
}

void fill_attention(Kernels& table) {
  table.attention = {attention, attention_workspace};
  table.attention_backward = {attention_backward, attention_backward_workspace};
  table.attention_cached = {attention_cached, attention_cached_workspace};
  table.rope = {rope, rope_workspace};
  table.rope_append = {rope_append, rope_append_workspace};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
