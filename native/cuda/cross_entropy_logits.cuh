// What a block makes of its 128×128 logits (cross_entropy.h, LogitUse). A warp takes a row at a time; a lane has the
// same four neighbouring classes of all of them.
#pragma once
#include "cross_entropy.h"
#include "cross_entropy_block.cuh"
#include "cross_entropy_facts.cuh"
#include "failure.h"

namespace foretoken::cuda {

constexpr int kLaneClasses = kLogitBlock / kWarp;

// ---- where a block stands -------------------------------------------------------------------------------------------

struct LogitPlace {
  int row_block, class_block;
};

// Blocks that run together share 16 blocks of rows, which stay in L2 while the weight streams by once.
__device__ __forceinline__ LogitPlace logit_place(int64_t rows, int64_t classes) {
  constexpr int kGroup = 16;
  int row_blocks = static_cast<int>(ceil_div(rows, kLogitBlock));
  int class_blocks = static_cast<int>(ceil_div(classes, kLogitBlock));
  int index = static_cast<int>(blockIdx.x), first = index / (kGroup * class_blocks) * kGroup;
  int height = min(kGroup, row_blocks - first), within = index - first * class_blocks;
  return {first + within % height, within / height};
}

// The four classes of this lane.
struct LaneClasses {
  int64_t first;  // in the weight that was given
  int name;       // of the first, in the vocabulary
  int count;      // of them that exist
  float bias[kLaneClasses];
};

__device__ __forceinline__ float bias_at(const Logits& logits, int64_t v) {
  if (!logits.bias) return 0;
  if (logits.bias_dtype == DType::bf16) return value_of(static_cast<const __nv_bfloat16*>(logits.bias)[v]);
  return static_cast<const float*>(logits.bias)[v];
}

__device__ __forceinline__ LaneClasses lane_classes(const Logits& logits, LogitPlace place) {
  LaneClasses lane;
  lane.first = int64_t{place.class_block} * kLogitBlock + threadIdx.x % kWarp * kLaneClasses;
  lane.name = static_cast<int>(logits.first_class + lane.first);
  int64_t left = logits.classes - lane.first;
  lane.count = left < 0 ? 0 : left < kLaneClasses ? static_cast<int>(left) : kLaneClasses;
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) lane.bias[j] = j < lane.count ? bias_at(logits, lane.first + j) : 0;
  return lane;
}

// ---- logits ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float finish_logit(const Logits& logits, float product, float bias) {
  return __fmul_rn(logits.logit_scale, __fadd_rn(product, bias));  // never part of a fused multiply-add
}

__device__ __forceinline__ float cap_logit(const Logits& logits, float z) {
  return logits.softcap != 0 ? logits.softcap * tanhf(z / logits.softcap) : z;
}

// This lane's products of a row.
__device__ __forceinline__ float4* lane_products(float* product, int row) {
  int column = threadIdx.x % kWarp * kLaneClasses;
  return reinterpret_cast<float4*>(product) + product_offset(row, column) / kLaneClasses;
}

// Products become capped logits, where there is a softcap: apart from what is made of them, since tanh is much code.
// Each lane reads afterwards what it has written itself.
__device__ __forceinline__ void cap_logits(const Logits& logits, const LaneClasses& lane, float* product, int first_row,
                                           int count) {
  if (logits.softcap == 0) return;
#pragma unroll 1
  for (int i = 0; i < count; i++) {
    float4 four = *lane_products(product, first_row + i);
    float z[kLaneClasses] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < kLaneClasses; j++) z[j] = cap_logit(logits, finish_logit(logits, z[j], lane.bias[j]));
    *lane_products(product, first_row + i) = make_float4(z[0], z[1], z[2], z[3]);
  }
}

// A row's logits, after cap_logits.
__device__ __forceinline__ void lane_logits(const Logits& logits, const LaneClasses& lane, float* product, int row,
                                            float (&z)[kLaneClasses]) {
  float4 four = *lane_products(product, row);
  z[0] = four.x, z[1] = four.y, z[2] = four.z, z[3] = four.w;
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) z[j] = logits.softcap != 0 ? z[j] : finish_logit(logits, z[j], lane.bias[j]);
}

// e^x. The bf16 path may flush what is below 2^-126.
template <class Storage>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(Storage) == sizeof(float)) return expf(x);
  return ptx::exp2_approximate(x * 1.44269504f);
}

// −∞ past the last class and at the row's target.
__device__ __forceinline__ void others_of_lane(const LaneClasses& lane, int32_t target, const float (&z)[kLaneClasses],
                                               float (&others)[kLaneClasses]) {
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) others[j] = j < lane.count && lane.name + j != target ? z[j] : -INFINITY;
}

__device__ __forceinline__ Leader leader_of_lane(const LaneClasses& lane, const float (&others)[kLaneClasses]) {
  Leader leader = no_leader();
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++)
    if (others[j] > leader.value) leader = {others[j], lane.name + j};
  return leader;
}

// What a use wants to know of a row beforehand. Lane i of a warp loads those of its row i; all lanes get them from
// there.
struct RowTerms {
  int32_t target;
  float target_logit, offset, factor, share;
};

template <LogitUse use>
__device__ __forceinline__ RowTerms load_terms(const LossRows& rows, int64_t row) {
  RowTerms terms = {rows.target[row], 0, 0, 0, 0};
  if constexpr (use == LogitUse::statistics) terms.target_logit = rows.target_logit[row];
  if constexpr (use != LogitUse::statistics) terms.offset = rows.offset[row];
  if constexpr (use == LogitUse::gradient) terms.factor = rows.factor[row], terms.share = rows.share[row];
  return terms;
}

template <LogitUse use>
__device__ __forceinline__ RowTerms terms_of_lane(const RowTerms& mine, int lane) {
  RowTerms terms = {__shfl_sync(~0u, mine.target, lane), 0, 0, 0, 0};
  if constexpr (use == LogitUse::statistics) terms.target_logit = __shfl_sync(~0u, mine.target_logit, lane);
  if constexpr (use != LogitUse::statistics) terms.offset = __shfl_sync(~0u, mine.offset, lane);
  if constexpr (use == LogitUse::gradient) {
    terms.factor = __shfl_sync(~0u, mine.factor, lane);
    terms.share = __shfl_sync(~0u, mine.share, lane);
  }
  return terms;
}

// ---- the uses: the facts of one row, and what becomes of its logits -------------------------------------------------

template <class Storage>
__device__ __forceinline__ RowFacts statistics_of_row(const LaneClasses& lane, const RowTerms& row,
                                                      const float (&z)[kLaneClasses]) {
  float others[kLaneClasses];
  others_of_lane(lane, row.target, z, others);
  RowFacts facts = no_facts();
  facts.leader = leader_of_warp(leader_of_lane(lane, others));
  float offset = finite_offset(facts.leader.value);
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) {
    float above = others[j] - offset, e = exponential<Storage>(above);
    bool inside = j < lane.count;
    facts.sum += e;
    facts.weighted += e * fmaxf(above, kLowestLogarithm);
    facts.logit_sum += inside ? z[j] : 0;
    facts.rank += inside && z[j] > row.target_logit;
  }
  facts.sum = warp_sum(facts.sum);
  facts.weighted = warp_sum(facts.weighted);
  facts.logit_sum = warp_sum(facts.logit_sum);
  facts.rank = static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(facts.rank)));
  return facts;
}

// z becomes what is stored: exp(z − offset)·slope; 0 at the target, in ignored rows and past the last class.
template <class Storage>
__device__ __forceinline__ RowFacts exponentials_of_row(const LaneClasses& lane, const RowTerms& row,
                                                        float inverse_softcap, float (&z)[kLaneClasses]) {
  float others[kLaneClasses], offset = row.target < 0 ? INFINITY : row.offset;
  others_of_lane(lane, row.target, z, others);
  RowFacts facts = no_facts();
  facts.leader = leader_of_warp(leader_of_lane(lane, others));
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) {
    float e = exponential<Storage>(others[j] - offset);
    facts.sum += e;
    z[j] = e * slope(inverse_softcap, z[j]);
  }
  facts.sum = warp_sum(facts.sum);
  return facts;
}

// z becomes G = (factor·exp(z − offset) − share)·slope, 0 in the same places.
template <class Storage>
__device__ __forceinline__ RowFacts gradient_of_row(const LaneClasses& lane, const RowTerms& row, float inverse_softcap,
                                                    float (&z)[kLaneClasses]) {
  RowFacts facts = no_facts();
#pragma unroll
  for (int j = 0; j < kLaneClasses; j++) {
    bool zero = row.target < 0 || j >= lane.count || lane.name + j == row.target;
    float e = exponential<Storage>(zero ? -INFINITY : z[j] - row.offset);
    float g = (row.factor * e - row.share) * slope(inverse_softcap, z[j]);
    facts.sum += e;
    z[j] = zero ? 0 : g;
  }
  facts.sum = warp_sum(facts.sum);
  return facts;
}

template <class Storage, LogitUse use>
__device__ __forceinline__ RowFacts use_row(const LaneClasses& lane, const RowTerms& row, float inverse_softcap,
                                            float (&z)[kLaneClasses]) {
  if constexpr (use == LogitUse::statistics) return statistics_of_row<Storage>(lane, row, z);
  if constexpr (use == LogitUse::exponentials) return exponentials_of_row<Storage>(lane, row, inverse_softcap, z);
  return gradient_of_row<Storage>(lane, row, inverse_softcap, z);
}

// ---- what leaves the block ------------------------------------------------------------------------------------------

// A lane's values to element `at`, a multiple of four, in one store. (From an address in elements the compiler would
// make several.)
__device__ __forceinline__ void store_lane(__nv_bfloat16* to, int64_t at, const float (&values)[kLaneClasses]) {
  __nv_bfloat162 low = __floats2bfloat162_rn(values[0], values[1]), high = __floats2bfloat162_rn(values[2], values[3]);
  reinterpret_cast<uint2*>(to)[at / kLaneClasses] =
      make_uint2(reinterpret_cast<const unsigned&>(low), reinterpret_cast<const unsigned&>(high));
}
__device__ __forceinline__ void store_lane(float* to, int64_t at, const float (&values)[kLaneClasses]) {
  reinterpret_cast<float4*>(to)[at / kLaneClasses] = make_float4(values[0], values[1], values[2], values[3]);
}

__device__ __forceinline__ void write_partials(const Logits& logits, LogitPlace place, int64_t row,
                                               const RowFacts& facts) {
  int64_t block = logits.first_class / kLogitBlock + place.class_block, stride = logits.partial_stride;
  float* to = logits.partials + block * logits.facts * stride + row;
  to[kSum * stride] = facts.sum;
  if (logits.facts > kLargest) to[kLargest * stride] = facts.leader.value;
  if (logits.facts > kIndex) to[kIndex * stride] = __int_as_float(facts.leader.index);
  if (logits.facts > kLogitSum) to[kLogitSum * stride] = facts.logit_sum;
  if (logits.facts > kWeighted) to[kWeighted * stride] = facts.weighted;
  if (logits.facts > kRank) to[kRank * stride] = __int_as_float(facts.rank);
}

// sums: of this lane's classes over its warp's rows. The product is done with.
template <int kWarps>
__device__ __forceinline__ void write_class_sums(const Logits& logits, LogitPlace place,
                                                 const float (&sums)[kLaneClasses], float* shared) {
  __syncthreads();  // the product is read before sums take its place
  store_lane(shared, threadIdx.x * kLaneClasses, sums);
  __syncthreads();  // sums are there before they are added up
  int64_t column = int64_t{place.class_block} * kLogitBlock + threadIdx.x;
  if (threadIdx.x >= kLogitBlock || column >= logits.classes) return;
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; warp++) sum += shared[warp * kLogitBlock + threadIdx.x];
  logits.class_sums[place.row_block * logits.stride + column] = sum;
}

// ---- the kernels ----------------------------------------------------------------------------------------------------

// One block of logits. redo: E is stored of rows that ask for it alone.
template <class Block, LogitUse use>
__device__ __forceinline__ void use_block(const Logits& logits, LogitPlace place, bool redo, float* product) {
  using Storage = typename Block::Storage;
  constexpr int kWarps = Block::kThreads / kWarp, kWarpRows = kLogitBlock / kWarps;
  int64_t first_row = int64_t{place.row_block} * kLogitBlock, first_class = int64_t{place.class_block} * kLogitBlock;
  Block::multiply(BlockRows<Storage>{static_cast<const Storage*>(logits.hidden), nullptr, first_row, logits.rows},
                  BlockRows<Storage>{static_cast<const Storage*>(logits.weight), nullptr, first_class, logits.classes},
                  logits.width, product);
  LaneClasses lane = lane_classes(logits, place);
  int warp_row = static_cast<int>(threadIdx.x) / kWarp * kWarpRows, own = static_cast<int>(threadIdx.x) % kWarp;
  int64_t warp_first = first_row + warp_row, left = logits.rows - warp_first, own_row = warp_first + own;
  int count = left < 0 ? 0 : left < kWarpRows ? static_cast<int>(left) : kWarpRows;
  RowTerms own_terms = {};
  if (own < count) own_terms = load_terms<use>(logits.row, own_row);
  bool stores = use != LogitUse::statistics && logits.stored && lane.first < logits.stride;
  RowFacts own_facts = no_facts();
  float class_sums[kLaneClasses] = {};
  float inverse_softcap = inverse_of(logits.softcap);
  cap_logits(logits, lane, product, warp_row, count);
#pragma unroll 2
  for (int i = 0; i < count; i++) {
    float z[kLaneClasses];
    lane_logits(logits, lane, product, warp_row + i, z);
    RowFacts facts = use_row<Storage, use>(lane, terms_of_lane<use>(own_terms, i), inverse_softcap, z);
    if (own == i) own_facts = facts;
    if constexpr (use == LogitUse::gradient)
      for (int j = 0; j < kLaneClasses; j++) class_sums[j] += z[j];
    int64_t row = warp_first + i;
    if (stores && !(redo && !logits.row.redo[row]))
      store_lane(static_cast<Storage*>(logits.stored), row * logits.stride + lane.first, z);
  }
  if (own < count) write_partials(logits, place, own_row, own_facts);
  if constexpr (use == LogitUse::gradient)
    if (logits.class_sums) write_class_sums<kWarps>(logits, place, class_sums, product);
}

template <class Block, LogitUse use>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocksPerProcessor)
    logits_kernel(const __grid_constant__ Logits logits) {
  extern __shared__ __align__(128) float product[];
  use_block<Block, use>(logits, logit_place(logits.rows, logits.classes), false, product);
}

// `exponentials` again for blocks with a row that asks for it. Few thread blocks, since nearly always they only look.
constexpr int kRedoBlocks = 32;  // for each block of rows
template <class Block>
__global__ void __launch_bounds__(Block::kThreads, 1) redo_kernel(const __grid_constant__ Logits logits) {
  extern __shared__ __align__(128) float product[];
  int row_block = static_cast<int>(blockIdx.x) / kRedoBlocks;
  int64_t row = int64_t{row_block} * kLogitBlock + threadIdx.x;
  bool asks = threadIdx.x < kLogitBlock && row < logits.rows && logits.row.redo[row] != 0;
  if (!__syncthreads_or(asks)) return;
  int class_blocks = static_cast<int>(ceil_div(logits.classes, kLogitBlock));
  for (int block = static_cast<int>(blockIdx.x) % kRedoBlocks; block < class_blocks; block += kRedoBlocks) {
    use_block<Block, LogitUse::exponentials>(logits, {row_block, block}, true, product);
    __syncthreads();  // the product is read before the next takes its place
  }
}

// The block's classes are its rows' own targets: z_y lies on the diagonal, with the bits it has in every other use.
template <class Block>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocksPerProcessor)
    target_logits_kernel(const __grid_constant__ Logits logits) {
  using Storage = typename Block::Storage;
  extern __shared__ __align__(128) float product[];
  int64_t first_row = int64_t{blockIdx.x} * kLogitBlock, row = first_row + threadIdx.x;
  Block::multiply(
      BlockRows<Storage>{static_cast<const Storage*>(logits.hidden), nullptr, first_row, logits.rows},
      BlockRows<Storage>{static_cast<const Storage*>(logits.weight), logits.row.target, first_row, logits.rows},
      logits.width, product);
  if (threadIdx.x >= kLogitBlock || row >= logits.rows) return;
  int32_t y = logits.row.target[row];
  float z = 0;
  if (y >= 0) {
    float sum = product[product_offset(threadIdx.x, threadIdx.x)];
    z = cap_logit(logits, finish_logit(logits, sum, bias_at(logits, y)));
  }
  logits.row.target_logit[row] = z;
  logits.row.offset[row] = z;
}

// ---- launches -------------------------------------------------------------------------------------------------------

template <class Kernel, class... Arguments>
static void launch_blocks(const Call& call, Kernel* kernel, int64_t blocks, int threads, Arguments... arguments) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kProductBytes) != cudaSuccess)
    return report_failure("the device has too little shared memory for a block of logits");
  kernel<<<static_cast<unsigned>(blocks), threads, kProductBytes, stream_of(call)>>>(arguments...);
  if (cudaPeekAtLastError() != cudaSuccess) report_failure("logits could not be launched");
}

template <class Block, class RedoBlock>
static void launch_use(const Call& call, LogitUse use, const Logits& logits) {
  int64_t row_blocks = ceil_div(logits.rows, kLogitBlock), blocks = row_blocks * ceil_div(logits.classes, kLogitBlock);
  constexpr int kThreads = Block::kThreads;
  switch (use) {
    case LogitUse::target: return launch_blocks(call, target_logits_kernel<Block>, row_blocks, kThreads, logits);
    case LogitUse::statistics:
      return launch_blocks(call, logits_kernel<Block, LogitUse::statistics>, blocks, kThreads, logits);
    case LogitUse::exponentials:
      return launch_blocks(call, logits_kernel<Block, LogitUse::exponentials>, blocks, kThreads, logits);
    case LogitUse::gradient:
      return launch_blocks(call, logits_kernel<Block, LogitUse::gradient>, blocks, kThreads, logits);
    case LogitUse::redo:
      return launch_blocks(call, redo_kernel<RedoBlock>, row_blocks * kRedoBlocks, RedoBlock::kThreads, logits);
  }
}

}  // namespace foretoken::cuda
