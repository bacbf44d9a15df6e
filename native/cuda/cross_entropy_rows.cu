// The fused linear cross-entropy, per row: targets, what the blocks' partial facts come to, and the inputs of the
// gradient. Formulas: generic/cross_entropy.cpp.
#include "cross_entropy_facts.cuh"
#include "launch.cuh"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kParts = kThreads / kWarp;  // a row's partials are put together in so many stretches of blocks

// ---- targets --------------------------------------------------------------------------------------------------------

// tokens: T of the call; stored: S of targets (B,S).
__global__ void __launch_bounds__(kThreads)
    find_targets_kernel(LossRows to, const int32_t* targets, const int32_t* limit, int64_t shift, int64_t tokens,
                        int64_t stored, int64_t vocabulary, RowRange range) {
  int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x, r = range.first + row;
  if (row >= range.count) return;
  int64_t position = r % tokens + shift;
  bool inside = position >= 0 && position < stored && !(limit && position > limit[r]);
  int32_t y = inside ? targets[r / tokens * stored + position] : -1;
  to.target[row] = y >= 0 && y < vocabulary ? y : -1;
}

// ---- the facts of a row ---------------------------------------------------------------------------------------------

__device__ __forceinline__ RowFacts read_facts(const float* from, int64_t facts, int64_t stride) {
  RowFacts row = no_facts();
  row.sum = from[kSum * stride];
  if (facts > kIndex) row.leader = {from[kLargest * stride], __float_as_int(from[kIndex * stride])};
  if (facts > kLogitSum) row.logit_sum = from[kLogitSum * stride];
  if (facts > kWeighted) row.weighted = from[kWeighted * stride];
  if (facts > kRank) row.rank = __float_as_int(from[kRank * stride]);
  return row;
}

struct SharedFacts {
  float words[kFacts][kParts][kWarp];

  __device__ __forceinline__ void put(const RowFacts& facts) {
    const float all[kFacts] = {facts.sum,       facts.leader.value, __int_as_float(facts.leader.index),
                               facts.logit_sum, facts.weighted,     __int_as_float(facts.rank)};
    for (int fact = 0; fact < kFacts; fact++) words[fact][threadIdx.x / kWarp][threadIdx.x % kWarp] = all[fact];
  }
  __device__ __forceinline__ RowFacts get(int part) const {
    float all[kFacts];
    for (int fact = 0; fact < kFacts; fact++) all[fact] = words[fact][part][threadIdx.x % kWarp];
    return {all[kSum],
            {all[kLargest], __float_as_int(all[kIndex])},
            all[kLogitSum],
            all[kWeighted],
            __float_as_int(all[kRank])};
  }
};

// The facts of row `row`, given to the threads of the first warp: lane i has the block's row i. Every warp adds up a
// stretch of the blocks of classes, in order; the stretches follow from V alone.
template <bool kRelative>
__device__ __forceinline__ RowFacts facts_of_row(const Logits& logits, int64_t row, bool wanted, SharedFacts& shared) {
  int64_t blocks = ceil_div(logits.vocabulary, kLogitBlock), part = threadIdx.x / kWarp;
  RowFacts facts = no_facts();
  if (wanted) {
    const float* from = logits.partials + row;
    int64_t block_stride = logits.facts * logits.partial_stride;
#pragma unroll 4
    for (int64_t block = blocks * part / kParts; block < blocks * (part + 1) / kParts; block++)
      facts = merge<kRelative>(facts, read_facts(from + block * block_stride, logits.facts, logits.partial_stride));
  }
  shared.put(facts);
  __syncthreads();  // all stretches are there
  if (part > 0) return facts;
  for (int other = 1; other < kParts; other++) facts = merge<kRelative>(facts, shared.get(other));
  return facts;
}

// scale[0]·weight[r]
__device__ __forceinline__ float scale_of(const Upstream& upstream) { return upstream.scale ? *upstream.scale : 1; }
__device__ __forceinline__ float weight_of(const Upstream& upstream, int64_t r) {
  return upstream.weight ? upstream.weight[r] : 1;
}

// The row's largest class, the target among them.
__device__ __forceinline__ int largest_class(const RowFacts& facts, int32_t target, float target_logit) {
  return target < 0 ? facts.leader.index : larger_of(facts.leader, {target_logit, target}).index;
}

// ---- exponentials ---------------------------------------------------------------------------------------------------

template <class Storage>
__global__ void __launch_bounds__(kThreads)
    reduce_exponentials_kernel(const __grid_constant__ Logits logits, LossOptions options, Upstream upstream,
                               RowRange range, LossOutputs outputs, bool redo) {
  __shared__ SharedFacts shared;
  int64_t row = int64_t{blockIdx.x} * kWarp + threadIdx.x % kWarp, r = range.first + row;
  const LossRows& rows = logits.row;
  bool wanted = row < logits.rows && (!redo || rows.redo[row]);
  RowFacts facts = facts_of_row<false>(logits, row, wanted, shared);
  if (threadIdx.x >= kWarp || !wanted) return;
  int32_t y = rows.target[row];
  int64_t second = logits.partial_stride + row;  // of the exact entries
  if (!redo) {
    rows.redo[row] = y >= 0 && facts.leader.index >= 0 && !(facts.leader.value - rows.offset[row] <= kRoom);
    if (rows.redo[row]) {
      rows.offset[row] = facts.leader.value;
      return;
    }
  }
  float z_y = rows.target_logit[row];
  if (outputs.argmax) outputs.argmax[r] = largest_class(facts, y, z_y);
  if (y < 0) {
    outputs.loss[r] = 0;
    rows.factor[row] = 0;
    rows.exact_class[row] = rows.exact_class[second] = -1;
    return;
  }
  // Everything relative to the target where it leads: then log1p keeps what is left of it.
  bool target_leads = z_y >= facts.leader.value;
  float base = target_leads ? z_y : rows.offset[row], moved = expf(rows.offset[row] - base);
  float others = facts.sum * moved, total = others + expf(z_y - base);
  float log_total = target_leads ? log1pf(others) : logf(total), lse = base + log_total;
  outputs.loss[r] = (base - z_y) + log_total + options.z_loss * lse * lse;

  float z_term = 2 * options.z_loss * lse, weight = weight_of(upstream, r) * options.logit_scale;
  float upstream_gradient = scale_of(upstream) * weight, not_target = others / total;
  rows.factor[row] = weight * (1 + z_term) * moved / total;
  rows.exact_class[row] = y;
  rows.exact_gradient[row] =
      upstream_gradient * slope(inverse_of(options.softcap), z_y) * (z_term * (1 - not_target) - not_target);
  rows.exact_class[second] = facts.leader.index;
  if (facts.leader.index < 0) return;
  rows.exact_gradient[second] = upstream_gradient * slope(inverse_of(options.softcap), facts.leader.value) *
                                (1 + z_term) * expf(facts.leader.value - base) / total;
  store_value(static_cast<Storage*>(logits.stored) + row * logits.stride + facts.leader.index, 0);
}

// ---- statistics -----------------------------------------------------------------------------------------------------

// What `gradient` needs of a row; normalizer: Σ exp(z − offset).
__device__ __forceinline__ void set_gradient(const Logits& logits, const LossOptions& options, const Upstream& upstream,
                                             int64_t row, int64_t r, float offset, float normalizer, float lse) {
  const LossRows& rows = logits.row;
  float gradient = scale_of(upstream) * weight_of(upstream, r) * options.logit_scale;
  rows.offset[row] = offset;
  rows.factor[row] = gradient * (1 + 2 * options.z_loss * lse) / normalizer;
  rows.share[row] = gradient * options.label_smoothing / static_cast<float>(logits.vocabulary);
  rows.normalizer[row] = normalizer;
  rows.lse[row] = lse;
}

__global__ void __launch_bounds__(kThreads)
    reduce_statistics_kernel(const __grid_constant__ Logits logits, LossOptions options, Upstream upstream,
                             RowRange range, LossOutputs outputs) {
  __shared__ SharedFacts shared;
  int64_t row = int64_t{blockIdx.x} * kWarp + threadIdx.x % kWarp, r = range.first + row;
  bool wanted = row < logits.rows;
  RowFacts facts = facts_of_row<true>(logits, row, wanted, shared);
  if (threadIdx.x >= kWarp || !wanted) return;
  int32_t y = logits.row.target[row];
  float z_y = logits.row.target_logit[row];
  bool target_leads = y >= 0 && z_y >= facts.leader.value;
  float offset = target_leads ? z_y : finite_offset(facts.leader.value);
  move_offset(facts, facts.leader.value, offset);
  float target = y < 0 ? 0 : expf(z_y - offset), total = facts.sum + target;
  float log_total = target_leads ? log1pf(facts.sum) : logf(total), lse = offset + log_total;
  if (target > 0) facts.weighted += target * (z_y - offset);

  // Each difference is taken from the offset, so that a common offset of the logits costs nothing.
  float smoothing = options.label_smoothing;
  float loss = (1 - smoothing) * ((offset - z_y) + log_total);
  if (smoothing != 0)
    loss += smoothing * ((offset - facts.logit_sum / static_cast<float>(logits.vocabulary)) + log_total);
  outputs.loss[r] = y < 0 ? 0 : loss + options.z_loss * lse * lse;
  if (outputs.lse) outputs.lse[r] = lse;
  if (outputs.argmax) outputs.argmax[r] = largest_class(facts, y, z_y);
  if (outputs.rank) outputs.rank[r] = y < 0 ? -1 : facts.rank;
  if (outputs.entropy) outputs.entropy[r] = log_total - facts.weighted / total;
  set_gradient(logits, options, upstream, row, r, offset, total, lse);
}

__global__ void __launch_bounds__(kThreads)
    prepare_gradient_kernel(const __grid_constant__ Logits logits, LossOptions options, Upstream upstream,
                            RowRange range, const float* lse) {
  int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x, r = range.first + row;
  if (row < logits.rows) set_gradient(logits, options, upstream, row, r, lse[r], 1, lse[r]);
}

// ---- gradient -------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    reduce_gradient_kernel(const __grid_constant__ Logits logits, LossOptions options, Upstream upstream,
                           RowRange range) {
  __shared__ SharedFacts shared;
  int64_t row = int64_t{blockIdx.x} * kWarp + threadIdx.x % kWarp, r = range.first + row;
  const LossRows& rows = logits.row;
  bool wanted = row < logits.rows && rows.target[row] >= 0;
  RowFacts facts = facts_of_row<false>(logits, row, wanted, shared);
  if (threadIdx.x >= kWarp || row >= logits.rows) return;
  rows.exact_class[row] = rows.target[row];
  if (!wanted) return;
  float smoothing = options.label_smoothing, not_target = facts.sum / rows.normalizer[row];
  float at_target = smoothing - smoothing / static_cast<float>(logits.vocabulary) - not_target +
                    2 * options.z_loss * rows.lse[row] * (1 - not_target);
  rows.exact_gradient[row] = scale_of(upstream) * weight_of(upstream, r) * options.logit_scale * at_target *
                             slope(inverse_of(options.softcap), rows.target_logit[row]);
}

}  // namespace

void find_targets(const Call& call, const Logits& logits, const In& targets, const In& limit, int64_t shift,
                  int64_t rows, RowRange range) {
  launch(call, ceil_div(range.count, kThreads), kThreads, find_targets_kernel, logits.row, elements<int32_t>(targets),
         elements<int32_t>(limit), shift, rows / row_count(targets), last_dimension(targets), logits.vocabulary, range);
}

void reduce_exponentials(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                         RowRange range, const LossOutputs& outputs, bool redo) {
  dispatch({logits.dtype}, [&]<class Storage>(Element<Storage>) {
    launch(call, ceil_div(logits.rows, kWarp), kThreads, reduce_exponentials_kernel<Storage>, logits, options, upstream,
           range, outputs, redo);
  });
}

void reduce_statistics(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                       RowRange range, const LossOutputs& outputs) {
  launch(call, ceil_div(logits.rows, kWarp), kThreads, reduce_statistics_kernel, logits, options, upstream, range,
         outputs);
}

void prepare_gradient(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                      RowRange range, const float* lse) {
  launch(call, ceil_div(logits.rows, kThreads), kThreads, prepare_gradient_kernel, logits, options, upstream, range,
         lse);
}

void reduce_gradient(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                     RowRange range) {
  launch(call, ceil_div(logits.rows, kWarp), kThreads, reduce_gradient_kernel, logits, options, upstream, range);
}

}  // namespace foretoken::cuda
