// Attention backward in blocks, probabilities recomputed from lse (FlashAttention-2, arXiv 2307.08691, algorithm 2).
// Keys are taken in ranges of kRangeBlocks blocks. Within a range dk and dv are summed in one place, in the order of
// heads and query blocks; dq is the sum over the ranges, in order. A task owns all ranges of one (b, g), or, where
// there are few of those, one range each; the order of every sum is the same.
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

constexpr int64_t kRangeBlocks = 8;

struct KeyRanges {
  int64_t blocks, count;  // key blocks of a range, ranges
  int64_t slots;          // how many partial dq there are: 0 (one range), 1 (tasks own all ranges), or one per range

  explicit KeyRanges(const AttentionShape& n) {
    constexpr int64_t kEnoughTasks = 16;
    blocks = n.blocks() < kRangeBlocks ? n.blocks() : kRangeBlocks;
    count = (n.blocks() + kRangeBlocks - 1) / kRangeBlocks;
    slots = count == 1 ? 0 : n.B * n.G < kEnoughTasks ? count : 1;
  }
  int64_t tasks_each() const { return slots > 1 ? slots : 1; }
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
  float* partial;  // sums of dq over ranges, (slots, B, T, H, D)
  float scale;

  // One range of keys, all heads of their group.
  void operator()(int64_t b, int64_t g, int64_t range, const BackwardScratch<S>& scratch) const {
    int64_t first = range * ranges.blocks, last = first + ranges.blocks;
    last = last < n.blocks() ? last : n.blocks();
    for (int64_t j = first; j < last; j++)
      transpose(n.dtype, at(k, n.key(b, j * kBlockTokens, g)), n.G * n.D, n.length(j), n.D,
                scratch.keys + (j - first) * kBlockTokens * n.D, kBlockTokens);
    int64_t sums = (last - first) * kBlockTokens * n.D, group = n.H / n.G;
    __builtin_memset(scratch.dkeys, 0, sums * sizeof(float));
    __builtin_memset(scratch.dvalues, 0, sums * sizeof(float));
    for (int64_t h = g * group; h < (g + 1) * group; h++)
      for (int64_t i = first; i < n.blocks(); i++) {
        Visibility visible(n, first_key, b, i);
        int64_t begin = visible.first_block > first ? visible.first_block : first, end = i + 1 < last ? i + 1 : last;
        if (begin < end) load_queries(b, h, i, scratch);
        for (int64_t j = begin; j < end; j++) pass_keys(b, h, i, j, j - first, visible, j > begin, scratch);
        if (begin >= end) __builtin_memset(scratch.dqueries, 0, n.D * kBlockTokens * sizeof(float));
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

  // Queries of block i against keys of block j, the range's block `place`.
  void pass_keys(int64_t b, int64_t h, int64_t i, int64_t j, int64_t place, const Visibility& visible, bool onto,
                 const BackwardScratch<S>& scratch) const {
    int64_t g = h * n.G / n.H, stride = n.G * n.D, count = n.length(i), keys = n.length(j);
    int64_t row = place * kBlockTokens * n.D, key = n.key(b, j * kBlockTokens, g);
    PackedBlock<S> packed{scratch.dscores_packed, keys};
    gemm_block(n.dtype, at(k, key), stride, scratch.queries_across, keys, count, n.D, scratch.scores, kBlockTokens,
               false);
    gemm_block(n.dtype, at(v, key), stride, scratch.douts_across, keys, count, n.D, scratch.dweights, kBlockTokens,
               false);
    for (int64_t query = 0; query < count; query += kWidth)
      differentiate(scratch, packed, visible.whole(i, j) ? nullptr : &visible, j * kBlockTokens, query,
                    broadcast(scale));
    packed.finish(count);
    gemm_block(n.dtype, scratch.weights, kBlockTokens, scratch.douts, keys, n.D, count, scratch.dvalues + row, n.D,
               true);
    gemm_block(n.dtype, scratch.dscores, kBlockTokens, scratch.queries, keys, n.D, count, scratch.dkeys + row, n.D,
               true);
    gemm_block(n.dtype, scratch.keys + row, kBlockTokens, scratch.dscores_packed, n.D, count, keys, scratch.dqueries,
               kBlockTokens, onto);
  }

  void store_queries(int64_t b, int64_t h, int64_t block, int64_t range, const BackwardScratch<S>& scratch) const {
    int64_t first = block * kBlockTokens, count = n.length(block);
    transpose(DType::f32, scratch.dqueries, kBlockTokens, n.D, count, scratch.rows, n.D);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = n.query(b, first + i, h);
      const float* from = scratch.rows + i * n.D;
      if (ranges.slots == 0) store_row(static_cast<S*>(at(dq, row)), from, scale);
      if (ranges.slots == 1 && range > 0) add_row(partial + row, from);
      if (ranges.slots == 1 && range == 0) store_row(partial + row, from, scale);
      if (ranges.slots > 1) store_row(partial + range * n.query(n.B, 0, 0) + row, from, scale);
    }
  }

  void add_row(float* to, const float* from) const {
    for (int64_t i = 0; i < n.D; i += kWidth) {
      Vec scaled = mul(broadcast(scale), load_n(from + i, n.D - i));
      store_n(to + i, add(load_n(to + i, n.D - i), scaled), n.D - i);
    }
  }
};

// dq = the sum over the slots that its position has a share in, first to last.
template <class S>
void add_slots(const Call& call, const AttentionShape& n, const KeyRanges& ranges, const float* partial,
               const Out& dq) {
  parallel_for(call, n.B * n.blocks(), [&](int64_t task, int) {
    int64_t b = task / n.blocks(), block = task % n.blocks(), slot_elements = n.query(n.B, 0, 0);
    int64_t row = n.query(b, block * kBlockTokens, 0), count = n.length(block) * n.H * n.D;
    int64_t slots = block / ranges.blocks + 1 < ranges.slots ? block / ranges.blocks + 1 : ranges.slots;
    S* to = static_cast<S*>(at(dq, row));
    for (int64_t i = 0; i < count; i += kWidth) {
      Vec sum = load_n(partial + row + i, count - i);
      for (int64_t slot = 1; slot < slots; slot++)
        sum = add(sum, load_n(partial + slot * slot_elements + row + i, count - i));
      store_n(to + i, sum, count - i);
    }
  });
}

template <class S>
void backward(const Call& call, const In& q, const In& k, const In& v, const In& first_key, const In& out,
              const In& lse, const In& dout, const Out& dq, const Out& dk, const Out& dv, double scale) {
  AttentionShape n(q, k);
  KeyRanges ranges(n);
  Carver carve(call.workspace), one(nullptr);
  float* partial = carve.take<float>(ranges.slots * n.query(n.B, 0, 0));
  BackwardScratch<S>(n, ranges, one);
  Backward<S> run{n, ranges, q, k, v, first_key, out, lse, dout, dq, dk, dv, partial, static_cast<float>(scale)};
  char* scratch = carve.base + carve.used;
  parallel_for(call, ranges.tasks_each() * n.B * n.G, [&](int64_t task, int worker) {
    Carver mine(scratch + worker * one.used);
    BackwardScratch<S> workspace(n, ranges, mine);
    int64_t b = task / n.G % n.B, g = task % n.G, each = task / (n.B * n.G);  // the first range is the longest
    if (ranges.slots > 1) return run(b, g, each, workspace);
    for (int64_t range = 0; range < ranges.count; range++) run(b, g, range, workspace);
  });
  if (ranges.slots > 0) add_slots<S>(call, n, ranges, partial, dq);
}

template <class S>
size_t backward_workspace(const Machine& machine, const AttentionShape& n) {
  KeyRanges ranges(n);
  Carver carve(nullptr), one(nullptr);
  carve.take<float>(ranges.slots * n.query(n.B, 0, 0));
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
