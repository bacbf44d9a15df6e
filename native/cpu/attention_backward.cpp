// Attention backward in blocks, probabilities recomputed from lse (FlashAttention-2, arXiv 2307.08691, algorithm 2).
// A task owns a range of keys of one (b, g) and passes all queries that see it: dk and dv are summed in one place, in
// the order of heads and query blocks. With few (b, g) the keys are cut into several ranges, whose dq are added at the
// end in the order of the ranges.
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// How keys are cut: `count` ranges of `blocks` key blocks. Many (b, g) need no cut; below that, ranges of at least
// 512 keys until there are 16 tasks.
struct KeyRanges {
  int64_t blocks, count;

  explicit KeyRanges(const AttentionShape& n) {
    constexpr int64_t kTasks = 16, kFewestBlocks = 8;
    int64_t wanted = (kTasks + n.B * n.G - 1) / (n.B * n.G), most = n.blocks() / kFewestBlocks;
    int64_t ranges = wanted < most ? wanted : most;
    blocks = ranges > 1 ? (n.blocks() + ranges - 1) / ranges : n.blocks();
    count = (n.blocks() + blocks - 1) / blocks;
  }
};

template <class S>
struct BackwardScratch {
  // Of the task's keys:
  S* keys;                 // sideways, block by block: (D × keys)
  float *dkeys, *dvalues;  // sums, (keys × D)
  // Of the query block at hand:
  void *queries_across, *douts_across;  // packed (D × queries)
  void *queries, *douts;                // packed (queries × D)
  float *log_sums, *deltas;             // lse, Σ_i dout_i·out_i
  float* dqueries;                      // (D × queries)
  float* rows;                          // the same upright
  // Of both, keys × queries:
  float *scores, *dweights;
  S *weights, *dscores;  // as rows
  S* dscores_packed;

  BackwardScratch(const AttentionShape& n, const KeyRanges& ranges, Carver& carve) {
    constexpr int64_t kSquare = kBlockTokens * kBlockTokens;
    int64_t range = ranges.blocks * kBlockTokens * n.D, block = kBlockTokens * n.D;
    keys = carve.take<S>(range);
    dkeys = carve.take<float>(range);
    dvalues = carve.take<float>(range);
    queries_across = carve.take<char>(packed_bytes(n.dtype, n.D, kBlockTokens));
    douts_across = carve.take<char>(packed_bytes(n.dtype, n.D, kBlockTokens));
    queries = carve.take<char>(packed_bytes(n.dtype, kBlockTokens, n.D));
    douts = carve.take<char>(packed_bytes(n.dtype, kBlockTokens, n.D));
    log_sums = carve.take<float>(kBlockTokens);
    deltas = carve.take<float>(kBlockTokens);
    dqueries = carve.take<float>(block);
    rows = carve.take<float>(block);
    scores = carve.take<float>(kSquare);
    dweights = carve.take<float>(kSquare);
    weights = carve.take<S>(kSquare);
    dscores = carve.take<S>(kSquare);
    dscores_packed = carve.take<S>(PackedBlock<S>::elements());
  }
};

// One vector of queries against one block of keys: weights = exp(scale·scores − lse), dscores = weights·(dweights − Δ),
// without the factor `scale`, which dq and dk get at their end.
template <class S>
void differentiate(const BackwardScratch<S>& scratch, const PackedBlock<S>& packed, const Visibility* partly,
                   int64_t first_key, int64_t query, Vec scale) {
  Vec log_sum = load(scratch.log_sums + query), delta = load(scratch.deltas + query);
  auto weight_of = [&](int64_t s) {
    Vec x = sub(mul(scale, load(scratch.scores + s * kBlockTokens + query)), log_sum);
    if (partly) x = where_visible(x, static_cast<float>(first_key + s), partly->first + query, partly->last + query);
    return exp(x);
  };
  auto dscore_of = [&](Vec weight, int64_t s) {
    return mul(weight, sub(load(scratch.dweights + s * kBlockTokens + query), delta));
  };
  for (int64_t s = 0; s < packed.keys; s += 2) {
    bool paired = s + 1 < packed.keys;
    Vec even = weight_of(s), odd = paired ? weight_of(s + 1) : zero();
    int64_t row = s * kBlockTokens + query;
    RowPair<S>(even, odd).store_rows(scratch.weights + row, scratch.weights + row + kBlockTokens);
    RowPair<S> dscores(dscore_of(even, s), paired ? dscore_of(odd, s + 1) : zero());
    dscores.store_rows(scratch.dscores + row, scratch.dscores + row + kBlockTokens);
    dscores.store_packed(packed.place(s, query));
  }
}

template <class S>
float dot(const S* a, const S* b, int64_t count) {
  Vec sum = zero();
  for (int64_t i = 0; i < count; i += kWidth) sum = fma(load_n(a + i, count - i), load_n(b + i, count - i), sum);
  return reduce_add(sum);
}

template <class S>
struct Backward {
  AttentionShape n;
  KeyRanges ranges;
  const In &q, &k, &v, &first_key, &out, &lse, &dout;
  const Out &dq, &dk, &dv;
  float* partial;  // dq of each range, (ranges, B, T, H, D), when there are several
  float scale;

  // The keys of one range, all heads of their group.
  void operator()(int64_t b, int64_t g, int64_t range, const BackwardScratch<S>& scratch) const {
    int64_t first = range * ranges.blocks, last = first + ranges.blocks;
    last = last < n.blocks() ? last : n.blocks();
    for (int64_t j = first; j < last; j++)
      transpose(n.dtype, at(k, n.key(b, j * kBlockTokens, g)), n.G * n.D, n.length(j), n.D,
                scratch.keys + (j - first) * kBlockTokens * n.D, kBlockTokens);
    int64_t sums = (last - first) * kBlockTokens * n.D;
    __builtin_memset(scratch.dkeys, 0, sums * sizeof(float));
    __builtin_memset(scratch.dvalues, 0, sums * sizeof(float));
    int64_t group = n.H / n.G;
    for (int64_t h = g * group; h < (g + 1) * group; h++)
      for (int64_t i = first; i < n.blocks(); i++) {
        load_queries(b, h, i, scratch);
        pass_keys(b, h, i, first, last, scratch);
        store_queries(b, h, i, range, scratch);
      }
    for (int64_t t = first * kBlockTokens; t < last * kBlockTokens && t < n.T; t++) {
      int64_t row = (t - first * kBlockTokens) * n.D;
      store_row(static_cast<S*>(at(dk, n.key(b, t, g))), scratch.dkeys + row, scale);
      store_row(static_cast<S*>(at(dv, n.key(b, t, g))), scratch.dvalues + row, 1);
    }
  }

 private:
  template <class To>
  void store_row(To* to, const float* from, float factor) const {
    for (int64_t i = 0; i < n.D; i += kWidth)
      store_n(to + i, mul(broadcast(factor), load_n(from + i, n.D - i)), n.D - i);
  }

  void load_queries(int64_t b, int64_t h, int64_t block, const BackwardScratch<S>& scratch) const {
    int64_t first = block * kBlockTokens, count = n.length(block), stride = n.H * n.D;
    auto pack = [&](const In& x, void* across, void* upright) {
      const void* data = at(x, n.query(b, first, h));
      pack_b({data, n.dtype, n.D, count, stride, true}, 0, count, across);
      pack_b({data, n.dtype, count, n.D, stride, false}, 0, n.D, upright);
    };
    pack(q, scratch.queries_across, scratch.queries);
    pack(dout, scratch.douts_across, scratch.douts);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = n.query(b, first + i, h);
      scratch.deltas[i] = dot(static_cast<const S*>(at(dout, row)), static_cast<const S*>(at(out, row)), n.D);
      scratch.log_sums[i] = floats(lse, (b * n.H + h) * n.T + first)[i];
    }
  }

  void pass_keys(int64_t b, int64_t h, int64_t i, int64_t first, int64_t last,
                 const BackwardScratch<S>& scratch) const {
    int64_t g = h * n.G / n.H, count = n.length(i), stride = n.G * n.D;
    Visibility visible(n, first_key, b, i);
    int64_t begin = visible.first_block > first ? visible.first_block : first, end = i + 1 < last ? i + 1 : last;
    if (begin >= end) __builtin_memset(scratch.dqueries, 0, n.D * kBlockTokens * sizeof(float));
    for (int64_t j = begin; j < end; j++) {
      int64_t keys = n.length(j), row = (j - first) * kBlockTokens * n.D;
      PackedBlock<S> packed{scratch.dscores_packed, keys};
      gemm_block(n.dtype, at(k, n.key(b, j * kBlockTokens, g)), stride, scratch.queries_across, keys, count, n.D,
                 scratch.scores, kBlockTokens, false);
      gemm_block(n.dtype, at(v, n.key(b, j * kBlockTokens, g)), stride, scratch.douts_across, keys, count, n.D,
                 scratch.dweights, kBlockTokens, false);
      for (int64_t query = 0; query < count; query += kWidth)
        differentiate(scratch, packed, visible.whole(i, j) ? nullptr : &visible, j * kBlockTokens, query,
                      broadcast(scale));
      packed.finish(count);
      gemm_block(n.dtype, scratch.weights, kBlockTokens, scratch.douts, keys, n.D, count, scratch.dvalues + row, n.D,
                 true);
      gemm_block(n.dtype, scratch.dscores, kBlockTokens, scratch.queries, keys, n.D, count, scratch.dkeys + row, n.D,
                 true);
      gemm_block(n.dtype, scratch.keys + row, kBlockTokens, scratch.dscores_packed, n.D, count, keys, scratch.dqueries,
                 kBlockTokens, j > begin);
    }
  }

  void store_queries(int64_t b, int64_t h, int64_t block, int64_t range, const BackwardScratch<S>& scratch) const {
    int64_t first = block * kBlockTokens, count = n.length(block);
    transpose(DType::f32, scratch.dqueries, kBlockTokens, n.D, count, scratch.rows, n.D);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = n.query(b, first + i, h);
      if (ranges.count == 1)
        store_row(static_cast<S*>(at(dq, row)), scratch.rows + i * n.D, scale);
      else
        store_row(partial + range * n.query(n.B, 0, 0) + row, scratch.rows + i * n.D, scale);
    }
  }
};

// dq = the sum over the ranges that its position sees, first to last.
template <class S>
void add_ranges(const Call& call, const AttentionShape& n, const KeyRanges& ranges, const float* partial,
                const Out& dq) {
  parallel_for(call, n.B * n.blocks(), [&](int64_t task, int) {
    int64_t b = task / n.blocks(), block = task % n.blocks(), range_elements = n.query(n.B, 0, 0);
    int64_t row = n.query(b, block * kBlockTokens, 0), count = n.length(block) * n.H * n.D;
    S* to = static_cast<S*>(at(dq, row));
    for (int64_t i = 0; i < count; i += kWidth) {
      Vec sum = load_n(partial + row + i, count - i);
      for (int64_t range = 1; range <= block / ranges.blocks; range++)
        sum = add(sum, load_n(partial + range * range_elements + row + i, count - i));
      store_n(to + i, sum, count - i);
    }
  });
}

int64_t partial_elements(const AttentionShape& n, const KeyRanges& ranges) {
  return ranges.count > 1 ? ranges.count * n.query(n.B, 0, 0) : 0;
}

template <class S>
void backward(const Call& call, const In& q, const In& k, const In& v, const In& first_key, const In& out,
              const In& lse, const In& dout, const Out& dq, const Out& dk, const Out& dv, double scale) {
  AttentionShape n(q, k);
  KeyRanges ranges(n);
  Carver carve(call.workspace), one(nullptr);
  float* partial = carve.take<float>(partial_elements(n, ranges));
  BackwardScratch<S>(n, ranges, one);
  Backward<S> run{n, ranges, q, k, v, first_key, out, lse, dout, dq, dk, dv, partial, static_cast<float>(scale)};
  char* scratch = carve.base + carve.used;
  parallel_for(call, ranges.count * n.B * n.G, [&](int64_t task, int worker) {
    Carver mine(scratch + worker * one.used);
    run(task / n.G % n.B, task % n.G, task / (n.B * n.G), BackwardScratch<S>(n, ranges, mine));
  });
  if (ranges.count > 1) add_ranges<S>(call, n, ranges, partial, dq);
}

template <class S>
size_t backward_workspace(const Machine& machine, const AttentionShape& n) {
  KeyRanges ranges(n);
  Carver carve(nullptr), one(nullptr);
  carve.take<float>(partial_elements(n, ranges));
  BackwardScratch<S>(n, ranges, one);
  return carve.used + machine.threads * one.used;
}

}  // namespace

size_t attention_backward_workspace(const Machine& machine, In q, In k, In, In, In, In, In, Out, Out, Out, double) {
  AttentionShape n(q, k);
  return n.dtype == DType::bf16 ? backward_workspace<bf16>(machine, n) : backward_workspace<float>(machine, n);
}

void attention_backward(const Call& call, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk,
                        Out dv, double scale) {
  if (q.dtype == DType::bf16)
    backward<bf16>(call, q, k, v, first_key, out, lse, dout, dq, dk, dv, scale);
  else
    backward<float>(call, q, k, v, first_key, out, lse, dout, dq, dk, dv, scale);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
