// Sampling one row, in double throughout, so that every level draws the same token. A level brings only its way of
// reading a row's maximum and normaliser.
#pragma once
#include "../core/normal.h"
#include "blocks.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

struct RowStatistics {
  bool valid;      // false: a NaN, or no finite maximum
  int64_t argmax;  // lowest index among equals
  double maximum;
  double log_sum;  // ln Σ exp(logit − maximum)
};

struct SampleSettings {
  double temperature;
  int64_t top_k;  // 1 to V
  double top_p;   // of the top_k; 1 and more: all
};

static inline SampleSettings sample_settings(const float* settings, int64_t vocabulary) {
  float top_k = settings[1];
  bool limited = top_k >= 1 && top_k < static_cast<float>(vocabulary);
  return {settings[0], limited ? static_cast<int64_t>(top_k) : vocabulary, settings[2] < 1 ? settings[2] : 1.0};
}

// ---- the largest logits --------------------------------------------------------------------------------------------

// A larger key is a larger logit or, among equals, a lower token. No two keys are the same.
static inline uint64_t key_of(float logit, int64_t token) {
  uint32_t bits = __builtin_bit_cast(uint32_t, logit + 0.0f);  // −0 becomes 0
  uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~token);
}
static inline int64_t token_of(uint64_t key) { return static_cast<uint32_t>(~key); }

// Puts `key` in at the root of a heap whose root is its smallest key, and lets it sink.
static inline void sink(uint64_t* heap, int64_t count, int64_t parent, uint64_t key) {
  for (int64_t child; (child = 2 * parent + 1) < count; parent = child) {
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (key <= heap[child]) break;
    heap[parent] = heap[child];
  }
  heap[parent] = key;
}

// keys[0, count) = the `count` largest logits, largest first.
static inline void largest_keys(const float* logits, int64_t vocabulary, int64_t count, uint64_t* keys) {
  for (int64_t token = 0; token < count; token++) keys[token] = key_of(logits[token], token);
  for (int64_t parent = count / 2 - 1; parent >= 0; parent--) sink(keys, count, parent, keys[parent]);
  for (int64_t token = count; token < vocabulary; token++) {
    uint64_t key = key_of(logits[token], token);
    if (key > keys[0]) sink(keys, count, 0, key);
  }
  for (int64_t last = count - 1; last > 0; last--) {
    uint64_t key = keys[last];
    keys[last] = keys[0];
    sink(keys, last, 0, key);
  }
}

// ---- one row -------------------------------------------------------------------------------------------------------

struct SampleRow {
  const float* logits;
  int64_t vocabulary;
  SampleSettings settings;
  RowStatistics statistics;
  const int32_t* counters;

  // Probability before normalisation.
  double mass(int64_t token) const {
    return portable_exp((static_cast<double>(logits[token]) - statistics.maximum) / settings.temperature);
  }
};

// How many of the largest keys to draw from; they are left in `keys` unless the answer is the whole vocabulary.
static inline int64_t nucleus(const SampleRow& row, uint64_t* keys) {
  int64_t top_k = row.settings.top_k;
  bool whole = top_k == row.vocabulary;
  if (row.settings.top_p >= 1) {
    if (!whole) largest_keys(row.logits, row.vocabulary, top_k, keys);
    return top_k;
  }
  double total = 0;
  if (whole) {
    for (int64_t token = 0; token < row.vocabulary; token++) total += row.mass(token);
  } else {
    largest_keys(row.logits, row.vocabulary, top_k, keys);
    for (int64_t i = 0; i < top_k; i++) total += row.mass(token_of(keys[i]));
  }
  // With the whole vocabulary to choose from, sort no more of it than the probability asks for.
  constexpr int64_t kFirstTry = 64, kGrowth = 8;
  for (int64_t sorted = whole ? smaller(kFirstTry, top_k) : top_k;; sorted = smaller(sorted * kGrowth, top_k)) {
    if (whole) largest_keys(row.logits, row.vocabulary, sorted, keys);
    double reached = 0;
    for (int64_t i = 0; i < sorted; i++) {
      reached += row.mass(token_of(keys[i]));
      if (reached >= row.settings.top_p * total) return i + 1;
    }
    if (sorted == top_k) return top_k;
  }
}

// The best token so far in a race of logit/temperature + Gumbel noise.
struct Race {
  double score = -__builtin_inf();
  int64_t winner = -1;

  void enter(const SampleRow& row, int64_t token) {
    const uint32_t* counters = reinterpret_cast<const uint32_t*>(row.counters);
    double base = row.logits[token] / row.settings.temperature;
    Philox words = philox4x32({{static_cast<uint32_t>(token), counters[3], counters[2], 0}}, counters[0], counters[1]);
    if (base + gumbel_bound(words) < score) return;
    double noisy = base + gumbel(words);
    if (noisy < score || (noisy == score && winner >= 0 && winner < token)) return;
    score = noisy;
    winner = token;
  }
};

static inline int64_t draw(const SampleRow& row, uint64_t* keys) {
  if (!(row.settings.temperature > 0)) return row.statistics.argmax;
  int64_t count = nucleus(row, keys);
  Race race;
  for (int64_t i = 0; i < count; i++) race.enter(row, count == row.vocabulary ? i : token_of(keys[i]));
  return race.winner;
}

// token and log_probability of every row; statistics(logits, V) reads one row.
static inline void sample_rows(const Call& call, const In& logits, const In& settings, const In& counters,
                               const Out& token, const Out& log_probability,
                               RowStatistics (*statistics)(const float* logits, int64_t vocabulary)) {
  int64_t vocabulary = last_dimension(logits);
  parallel_for(call, row_count(logits), [&](int64_t r, int worker) {
    const float* row_logits = static_cast<const float*>(logits.data) + r * vocabulary;
    SampleRow row = {row_logits, vocabulary,
                     sample_settings(static_cast<const float*>(settings.data) + r * 3, vocabulary),
                     statistics(row_logits, vocabulary), static_cast<const int32_t*>(counters.data) + r * 4};
    int64_t drawn = -1;
    double log_chance = __builtin_nan("");
    if (row.statistics.valid) {
      drawn = draw(row, static_cast<uint64_t*>(call.workspace) + worker * vocabulary);
      log_chance = row_logits[drawn] - row.statistics.maximum - row.statistics.log_sum;
    }
    static_cast<int32_t*>(token.data)[r] = static_cast<int32_t>(drawn);
    static_cast<float*>(log_probability.data)[r] = static_cast<float>(log_chance);
  });
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
