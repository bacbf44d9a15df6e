// Sampling: the row's statistics as plain loops in double.
#include "../sample.h"

namespace foretoken::generic {

static RowStatistics row_statistics(const float* logits, int64_t vocabulary) {
  RowStatistics row = {false, 0, logits[0], 0};
  for (int64_t token = 0; token < vocabulary; token++) {
    if (__builtin_isnan(logits[token])) return row;
    if (logits[token] > row.maximum) row = {false, token, logits[token], 0};
  }
  if (!__builtin_isfinite(row.maximum)) return row;
  double sum = 0;
  for (int64_t token = 0; token < vocabulary; token++) sum += portable_exp(logits[token] - row.maximum);
  return {true, row.argmax, row.maximum, portable_log(sum)};
}

static void sample(const Call& call, In logits, In settings, In counters, Out token, Out log_probability) {
  sample_rows(call, logits, settings, counters, token, log_probability, row_statistics);
}

static size_t sample_workspace(const Machine& machine, In logits, In, In, Out token, Out) {
  return machine.threads * SampleScratch(logits, token).bytes();
}

void fill_sample(Kernels& table) { table.sample = {sample, sample_workspace}; }

}  // namespace foretoken::generic
