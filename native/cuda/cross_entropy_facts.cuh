// What is known of a row of logits, put together from parts in a fixed order.
#pragma once
#include "cross_entropy.h"
#include "device.cuh"

namespace foretoken::cuda {

// The largest logit but the target's, and its class; −1 where there is none. The lower class wins among equals.
struct Leader {
  float value;
  int index;
};

__device__ __forceinline__ Leader no_leader() { return {-INFINITY, -1}; }

__device__ __forceinline__ Leader larger_of(Leader a, Leader b) {
  bool second = b.value > a.value || (b.value == a.value && b.index < a.index);
  return second ? b : a;
}

__device__ __forceinline__ Leader leader_of_warp(Leader leader) {
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2)
    leader =
        larger_of(leader, {__shfl_xor_sync(~0u, leader.value, offset), __shfl_xor_sync(~0u, leader.index, offset)});
  return leader;
}

struct RowFacts {
  float sum;  // Σ_{j≠y} exp(z − offset)
  Leader leader;
  float logit_sum;  // Σ z, the target's included
  float weighted;   // Σ_{j≠y} exp(z − offset)·(z − offset)
  int rank;         // how many logits are larger than the target's
};

__device__ __forceinline__ RowFacts no_facts() { return {0, no_leader(), 0, 0, 0}; }

// exp of it is 0 in f32, and so is its product with that.
constexpr float kLowestLogarithm = -1e4f;

// A row without a leader has nothing to be relative to.
__device__ __forceinline__ float finite_offset(float largest) { return largest == -INFINITY ? 0 : largest; }

// The facts' sums relative to another offset; `from` may be −∞ where there is nothing to move.
__device__ __forceinline__ void move_offset(RowFacts& facts, float from, float to) {
  float drop = fmaxf(from - to, kLowestLogarithm), factor = expf(drop);
  facts.weighted = factor * (facts.weighted + facts.sum * drop);
  facts.sum *= factor;
}

// Two parts of a row. kRelative: the offset of each part's sums is its own leader; else all parts have the same.
template <bool kRelative>
__device__ __forceinline__ RowFacts merge(RowFacts a, RowFacts b) {
  Leader leader = larger_of(a.leader, b.leader);
  if constexpr (kRelative) {
    float offset = finite_offset(leader.value);
    move_offset(a, a.leader.value, offset);
    move_offset(b, b.leader.value, offset);
  }
  return {a.sum + b.sum, leader, a.logit_sum + b.logit_sum, a.weighted + b.weighted, a.rank + b.rank};
}

// 0 where there is no softcap.
__device__ __forceinline__ float inverse_of(float softcap) { return softcap != 0 ? 1 / softcap : 0; }

// ∂ softcap(u)/∂u from the logit itself: tanh' = 1 − tanh².
__device__ __forceinline__ float slope(float inverse_softcap, float z) {
  float ratio = z * inverse_softcap;
  return 1 - ratio * ratio;
}

}  // namespace foretoken::cuda
