// Accuracy, conditional accuracy and acceptance of the prediction heads, from their losses and argmaxes; and the
// reduction of one head's losses. Definitions in ../cpu/generic/metrics.cpp. Sums are in double, in a fixed order.
#include "launch.cuh"
#include "reduce.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

// ---- multi_token_metrics -------------------------------------------------------------------------------------------

// What one position adds to the sums of one head, in their order in the table.
enum Count { kLoss, kValid, kCorrect, kBothCorrect, kConditionMet, kAccepted, kAcceptancePositions, kCounts = 8 };

struct Heads {
  const int32_t *argmax, *targets, *limit;  // (n,R), (B,S), (B,T) or nullptr
  int64_t rows, tokens, stored;             // R, T, S

  __device__ int32_t guess(int64_t head, int64_t row) const { return argmax[head * rows + row]; }
  __device__ int64_t last_position(int64_t row) const { return limit ? limit[row] : stored; }

  // What head i must say at this row: the token i + 1 positions on, or −1 where it is ignored.
  __device__ int32_t target(int64_t head, int64_t row) const {
    const int64_t position = row % tokens + head + 1;
    if (position >= stored || position > last_position(row)) return -1;
    return targets[row / tokens * stored + position];
  }
  __device__ bool correct(int64_t head, int64_t row) const {
    const int32_t wanted = target(head, row);
    return wanted >= 0 && guess(head, row) == wanted;
  }
  __device__ bool all_correct_before(int64_t head, int64_t row) const {
    for (int64_t j = 0; j < head; j++)
      if (!correct(j, row)) return false;
    return true;
  }
  // The draft of heads 1…i is what head 0 says once it gets there.
  __device__ bool accepted(int64_t head, int64_t row) const {
    for (int64_t j = 1; j <= head; j++)
      if (guess(j, row) != guess(0, row + j)) return false;
    return true;
  }
  __device__ bool has_acceptance(int64_t head, int64_t row) const {
    const int64_t t = row % tokens;
    return t + head < tokens && t + head <= last_position(row);
  }
};

constexpr int kThreads = 512;

// A block a head.
__global__ void __launch_bounds__(kThreads)
    multi_token_metrics_kernel(const float* loss /*(n,R)*/, Heads heads, float* sums /*(n,8)*/, bool accumulate) {
  const int64_t head = blockIdx.x;
  double counts[kCounts] = {};
  for (int64_t row = threadIdx.x; row < heads.rows; row += kThreads) {
    if (heads.target(head, row) >= 0) {
      const bool correct = heads.correct(head, row), condition = heads.all_correct_before(head, row);
      counts[kLoss] += loss[head * heads.rows + row];
      counts[kValid] += 1;
      counts[kCorrect] += correct;
      counts[kConditionMet] += condition;
      counts[kBothCorrect] += condition && correct;
    }
    if (heads.has_acceptance(head, row)) {
      counts[kAcceptancePositions] += 1;
      counts[kAccepted] += heads.accepted(head, row);
    }
  }
#pragma unroll
  for (int i = 0; i < kCounts; i++) {
    const double count = block_reduce(counts[i], Sum());
    float* sum = sums + head * kCounts + i;
    if (threadIdx.x == 0) *sum = static_cast<float>((accumulate ? *sum : 0.0) + count);
  }
}

void multi_token_metrics(const Call& call, In loss, In argmax, In targets, In limit, InOut sums, bool accumulate) {
  const int64_t rows = argmax.shape[1], sequences = row_count(targets);
  const Heads heads = {elements<int32_t>(argmax),        elements<int32_t>(targets), elements<int32_t>(limit), rows,
                       sequences ? rows / sequences : 0, last_dimension(targets)};
  launch(call, argmax.shape[0], kThreads, multi_token_metrics_kernel, elements<float>(loss), heads,
         elements<float>(sums), accumulate);
}

// ---- reduce_loss ---------------------------------------------------------------------------------------------------

constexpr int kReduceThreads = 1024;

// One block: some ten thousand rows take microseconds.
__global__ void __launch_bounds__(kReduceThreads)
    reduce_loss_kernel(const float* loss /*(R)*/, const int32_t* targets /*(R)*/,
                       const float* row_weight /*(R) or nullptr*/, bool mean, float* total /*(1)*/,
                       float* share /*(R)*/, int64_t R) {
  auto weight_of = [=](int64_t r) { return targets[r] < 0 ? 0.0f : row_weight ? row_weight[r] : 1.0f; };
  double weights = 0, sum = 0;
  for (int64_t r = threadIdx.x; mean && r < R; r += kReduceThreads) weights += weight_of(r);
  weights = block_reduce(weights, Sum());
  const double divisor = weights != 0 ? weights : 1;
  for (int64_t r = threadIdx.x; r < R; r += kReduceThreads) {
    share[r] = static_cast<float>(weight_of(r) / divisor);
    sum += static_cast<double>(share[r]) * loss[r];
  }
  sum = block_reduce(sum, Sum());
  if (threadIdx.x == 0) *total = static_cast<float>(sum);
}

void reduce_loss(const Call& call, In loss, In targets, In row_weight, bool mean, Out total, Out share) {
  launch(call, 1, kReduceThreads, reduce_loss_kernel, elements<float>(loss), elements<int32_t>(targets),
         elements<float>(row_weight), mean, elements<float>(total), elements<float>(share), element_count(loss));
}

}  // namespace

void fill_metrics(Kernels& table) {
  table.multi_token_metrics = {multi_token_metrics};
  table.reduce_loss = {reduce_loss};
}

}  // namespace foretoken::cuda
