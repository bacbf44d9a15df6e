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

// ---- keys: logits in order -----------------------------------------------------------------------------------------

// A larger key is a larger logit or, among equals, a lower token. No two keys are the same.
static inline uint64_t key_of(float logit, int64_t token) {
  uint32_t bits = __builtin_bit_cast(uint32_t, logit + 0.0f);  // −0 becomes 0
  uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~token);
}
static inline int64_t token_of(uint64_t key) { return static_cast<uint32_t>(~key); }

// A heap has its smallest item at the root. Puts `item` in at `parent` and lets it sink.
template <class Item>
static inline void sink(Item* heap, int64_t count, int64_t parent, Item item) {
  for (int64_t child; (child = 2 * parent + 1) < count; parent = child) {
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (!(heap[child] < item)) break;
    heap[parent] = heap[child];
  }
  heap[parent] = item;
}

static inline void make_heap(uint64_t* keys, int64_t count) {
  for (int64_t parent = count / 2 - 1; parent >= 0; parent--) sink(keys, count, parent, keys[parent]);
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

// ---- filters -------------------------------------------------------------------------------------------------------

struct Candidates {
  uint64_t* keys;  // in no particular order
  int64_t count;
};

// The top_k largest logits.
static inline Candidates top_k(const SampleRow& row, uint64_t* keys) {
  int64_t count = row.settings.top_k;
  for (int64_t token = 0; token < count; token++) keys[token] = key_of(row.logits[token], token);
  if (count == row.vocabulary) return {keys, count};
  make_heap(keys, count);
  for (int64_t token = count; token < row.vocabulary; token++) {
    uint64_t key = key_of(row.logits[token], token);
    if (key > keys[0]) sink(keys, count, 0, key);
  }
  return {keys, count};
}

// Of those, the likeliest, until their share of the probability reaches top_p; at least one.
static inline Candidates top_p(const SampleRow& row, Candidates all) {
  if (row.settings.top_p >= 1) return all;
  uint64_t* keys = all.keys;
  double total = 0, reached = 0;
  for (int64_t i = 0; i < all.count; i++) {
    total += row.mass(token_of(keys[i]));
    keys[i] = ~keys[i];  // so that the root is the likeliest
  }
  make_heap(keys, all.count);
  int64_t rest = all.count;  // in the heap; behind it, the chosen
  do {
    uint64_t likeliest = ~keys[0];
    rest--;
    sink(keys, rest, 0, keys[rest]);
    keys[rest] = likeliest;
    reached += row.mass(token_of(likeliest));
  } while (rest > 0 && reached < row.settings.top_p * total);
  return {keys + rest, all.count - rest};
}

// ---- the draw ------------------------------------------------------------------------------------------------------

// A token with its logit/temperature + Gumbel noise, or with its logit; −1: nobody, who still precedes a masked token.
struct Runner {
  double score;
  int64_t token;
  bool operator<(const Runner& other) const {
    return score < other.score || (score == other.score && token > other.token);
  }
};

// The M best tokens so far: a heap, the last of them at its root.
struct Race {
  Runner* places;
  int64_t count;

  Race(Runner* places_, int64_t count_) : places(places_), count(count_) {
    for (int64_t i = 0; i < count; i++) places[i] = {-__builtin_inf(), -1};
  }
  void enter(Runner runner) {
    if (places[0] < runner) sink(places, count, 0, runner);
  }
  void enter_with_noise(const SampleRow& row, int64_t token) {
    const uint32_t* counters = reinterpret_cast<const uint32_t*>(row.counters);
    double base = row.logits[token] / row.settings.temperature;
    Philox words = philox4x32({{static_cast<uint32_t>(token), counters[3], counters[2], 0}}, counters[0], counters[1]);
    if (base + gumbel_bound(words) < places[0].score) return;
    enter({base + gumbel(words), token});
  }
  // Best first.
  void sort() {
    for (int64_t rest = count - 1; rest > 0; rest--) {
      Runner worst = places[0];
      sink(places, rest, 0, places[rest]);
      places[rest] = worst;
    }
  }
};

// A race of the logits alone. Blocks without one above the last place's are passed over: a loop that becomes vectors.
static inline void race_without_noise(const SampleRow& row, Race& race) {
  constexpr int64_t kStep = 64;
  for (int64_t first = 0; first < row.vocabulary; first += kStep) {
    const int64_t end = smaller(first + kStep, row.vocabulary);
    const float last = static_cast<float>(race.places[0].score);  // a logit
    int above = 0;
    for (int64_t token = first; token < end; token++) above |= row.logits[token] > last;
    if (!above) continue;
    for (int64_t token = first; token < end; token++) race.enter({row.logits[token], token});
  }
}

static inline void draw(const SampleRow& row, uint64_t* keys, Race race) {
  if (!(row.settings.temperature > 0)) {
    if (race.count == 1) return race.enter({row.statistics.maximum, row.statistics.argmax});
    race_without_noise(row, race);
  } else if (row.settings.top_k == row.vocabulary && row.settings.top_p >= 1) {
    for (int64_t token = 0; token < row.vocabulary; token++) race.enter_with_noise(row, token);
  } else {
    Candidates candidates = top_p(row, top_k(row, keys));
    for (int64_t i = 0; i < candidates.count; i++) race.enter_with_noise(row, token_of(candidates.keys[i]));
  }
  race.sort();
}

// What a worker needs: every token's key, and the M places of the race.
struct SampleScratch {
  int64_t vocabulary, places;
  SampleScratch(const View& logits, const View& token)
      : vocabulary(last_dimension(logits)), places(token.rank > 1 ? last_dimension(token) : 1) {}
  int64_t bytes() const { return vocabulary * sizeof(uint64_t) + places * sizeof(Runner); }
  Runner* places_of(void* workspace, int worker) const {
    return reinterpret_cast<Runner*>(static_cast<char*>(workspace) + worker * bytes());
  }
  uint64_t* keys_of(void* workspace, int worker) const {
    return reinterpret_cast<uint64_t*>(places_of(workspace, worker) + places);
  }
};

// token and log_probability of every row; statistics(logits, V) reads one row.
static inline void sample_rows(const Call& call, const In& logits, const In& settings, const In& counters,
                               const Out& token, const Out& log_probability,
                               RowStatistics (*statistics)(const float* logits, int64_t vocabulary)) {
  const SampleScratch scratch(logits, token);
  int64_t vocabulary = scratch.vocabulary, M = scratch.places;
  parallel_for(call, row_count(logits), [&](int64_t r, int worker) {
    const float* row_logits = static_cast<const float*>(logits.data) + r * vocabulary;
    SampleRow row = {row_logits, vocabulary,
                     sample_settings(static_cast<const float*>(settings.data) + r * 3, vocabulary),
                     statistics(row_logits, vocabulary), static_cast<const int32_t*>(counters.data) + r * 4};
    Race race(scratch.places_of(call.workspace, worker), M);
    if (row.statistics.valid) draw(row, scratch.keys_of(call.workspace, worker), race);
    for (int64_t i = 0; i < M; i++) {
      int64_t drawn = race.places[i].token;
      double log_chance = __builtin_nan("");
      if (drawn >= 0) log_chance = row_logits[drawn] - row.statistics.maximum - row.statistics.log_sum;
      static_cast<int32_t*>(token.data)[r * M + i] = static_cast<int32_t>(drawn);
      static_cast<float*>(log_probability.data)[r * M + i] = static_cast<float>(log_chance);
    }
  });
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
