// Sampling: a row's statistics with the vectors of a SIMD level.
#include "sample.h"

#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static float row_maximum(const float* logits, int64_t vocabulary) {
  Vec largest = broadcast(-__builtin_inff());
  for_vectors(0, vocabulary, [&](int64_t token, auto lanes) {
    Vec x = load(logits + token, lanes);
    if constexpr (__is_same(decltype(lanes), FirstLanes)) x = select_n(x, largest, lanes.count);
    largest = max(largest, x);
  });
  return reduce_max(largest);
}

// Σ exp(logit − maximum): float within a block, double between blocks. A NaN anywhere makes it NaN.
static double row_sum(const float* logits, int64_t vocabulary, float maximum) {
  double total = 0;
  for (int64_t first = 0; first < vocabulary; first += kBlock) {
    const float* block = logits + first;
    total += sum_vectors(smaller(kBlock, vocabulary - first), [=](int64_t i, auto lanes) {
      Vec term = exp(sub(load(block + i, lanes), broadcast(maximum)));
      if constexpr (__is_same(decltype(lanes), FirstLanes)) term = select_n(term, zero(), lanes.count);
      return term;
    });
  }
  return total;
}

static RowStatistics row_statistics(const float* logits, int64_t vocabulary) {
  float maximum = row_maximum(logits, vocabulary);
  double sum = row_sum(logits, vocabulary, maximum);
  if (!__builtin_isfinite(maximum) || !__builtin_isfinite(sum)) return {false, 0, 0, 0};
  int64_t argmax = 0;
  while (logits[argmax] != maximum) argmax++;
  return {true, argmax, maximum, portable_log(sum)};
}

static void sample(const Call& call, In logits, In settings, In counters, Out token, Out log_probability) {
  sample_rows(call, logits, settings, counters, token, log_probability, row_statistics);
}

void fill_sample(Kernels& table) {
  table.sample.run = sample;  // the generic level's workspace
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
