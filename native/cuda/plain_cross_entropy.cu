// Cross-entropy of stored logits, a block a row, as ../cpu/plain_cross_entropy.h has it.
#include "cross_entropy_facts.cuh"
#include "failure.h"
#include "quad.cuh"
#include "reduce.cuh"
#include "table.h"

namespace foretoken::cuda {

__device__ __forceinline__ Leader exchange(Leader x, int mask) {
  return {__shfl_xor_sync(~0u, x.value, mask), __shfl_xor_sync(~0u, x.index, mask)};
}

namespace {

constexpr int kThreads = 256;

struct LargerLeader {
  __device__ Leader operator()(Leader a, Leader b) const { return larger_of(a, b); }
};

struct PlainTargets {
  const int32_t* tokens;                      // (B,S)
  const int32_t* limit;                       // (B,T) or absent
  int64_t stored, length, shift, vocabulary;  // S, T, …, V

  // The class that row r must predict, or −1 where it is ignored.
  __device__ int64_t of(int64_t r) const {
    const int64_t position = r % length + shift;
    if (position < 0 || position >= stored || (limit && position > limit[r])) return -1;
    const int64_t y = tokens[r / length * stored + position];
    return y >= 0 && y < vocabulary ? y : -1;
  }
};

PlainTargets targets_of(const In& logits, const In& targets, const In& limit, int64_t shift) {
  return {elements<int32_t>(targets),
          elements<int32_t>(limit),
          last_dimension(targets),
          row_count(logits) / row_count(targets),
          shift,
          last_dimension(logits)};
}

// body(v, left) for the first elements of this thread's quads of a row of V.
template <class Body>
__device__ __forceinline__ void for_my_quads(int64_t vocabulary, Body body) {
  for (int64_t v = kQuad * threadIdx.x; v < vocabulary; v += kQuad * kThreads) body(v, vocabulary - v);
}

// ---- cross_entropy: the largest logit, then the sum of exponentials relative to it ---------------------------------

template <class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const T* logits /*(R,V)*/, PlainTargets targets, float* loss /*(R)*/, float* lse /*(R)*/,
                         int32_t* argmax /*(R) or absent*/) {
  const int64_t r = blockIdx.x, V = targets.vocabulary;
  const T* row = logits + r * V;
  Leader leader = no_leader();
  for_my_quads(V, [&](int64_t v, int64_t left) {
    const Quad z = load_quad(row + v, left);
    for (int i = 0; i < kQuad; i++)
      if (i < left) leader = larger_of(leader, {z.v[i], static_cast<int>(v) + i});
  });
  leader = block_reduce(leader, LargerLeader());
  float sum = 0;
  for_my_quads(V, [&](int64_t v, int64_t left) {
    const Quad z = load_quad(row + v, left);
    for (int i = 0; i < kQuad; i++)
      if (i < left) sum += expf(z.v[i] - leader.value);
  });
  sum = block_reduce(sum, Sum());
  if (threadIdx.x > 0) return;
  const int64_t y = targets.of(r);
  const float log_sum = logf(sum);
  // From the largest logit, so that a common offset of the logits costs nothing.
  loss[r] = y < 0 ? 0 : (leader.value - value_of(row[y])) + log_sum;
  lse[r] = leader.value + log_sum;
  if (argmax) argmax[r] = leader.index < 0 ? 0 : leader.index;
}

void cross_entropy(const Call& call, In logits, In targets, In limit, int64_t shift, Out loss, Out lse, Out argmax) {
  dispatch({logits.dtype}, [&]<class T>(Element<T>) {
    launch(call, row_count(logits), kThreads, cross_entropy_kernel<T>, elements<T>(logits),
           targets_of(logits, targets, limit, shift), elements<float>(loss), elements<float>(lse),
           elements<int32_t>(argmax));
  });
}

// ---- its gradient --------------------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_backward_kernel(const T* logits, PlainTargets targets, const float* lse /*(R)*/,
                                  const float* upstream /*(R)*/, T* dlogits /*both (R,V)*/) {
  const int64_t r = blockIdx.x, V = targets.vocabulary, y = targets.of(r);
  const float offset = lse[r], up = upstream[r];
  for_my_quads(V, [=](int64_t v, int64_t left) {
    Quad z = load_quad(logits + r * V + v, left);
    for (int i = 0; i < kQuad; i++) z.v[i] = y < 0 ? 0 : up * (expf(z.v[i] - offset) - (v + i == y ? 1.0f : 0.0f));
    store_quad(dlogits + r * V + v, z, left);
  });
}

void cross_entropy_backward(const Call& call, In logits, In targets, In limit, int64_t shift, In lse, In upstream,
                            Out dlogits) {
  if (dlogits.dtype != logits.dtype) return report_failure("logits and dlogits of different dtypes");
  dispatch({logits.dtype}, [&]<class T>(Element<T>) {
    launch(call, row_count(logits), kThreads, cross_entropy_backward_kernel<T>, elements<T>(logits),
           targets_of(logits, targets, limit, shift), elements<float>(lse), elements<float>(upstream),
           elements<T>(dlogits));
  });
}

}  // namespace

void fill_plain_cross_entropy(Kernels& table) {
  table.cross_entropy = {cross_entropy};
  table.cross_entropy_backward = {cross_entropy_backward};
}

}  // namespace foretoken::cuda
