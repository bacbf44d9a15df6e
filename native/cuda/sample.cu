// Sampling: the same tokens as ../cpu/sample.h draws, a block a row. Nothing is sorted: top_k and top_p look for the
// least logit that still belongs, by bisection.
#include "launch.cuh"
#include "normal.cuh"
#include "reduce.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = 512;

// Four tokens a thread while that is fewer. By the vocabulary alone, since the order of sums depends on it.
int threads_for(int64_t vocabulary) {
  const int64_t threads = round_up(ceil_div(vocabulary, 4), kWarp);
  return static_cast<int>(threads < kThreads ? threads : kThreads);
}

struct SampleSettings {
  double temperature;
  int64_t top_k;  // 1 to V
  double top_p;   // of the top_k; 1 and more: all
};

__device__ SampleSettings sample_settings(const float* settings /*(3)*/, int64_t vocabulary) {
  const float top_k = settings[1];
  const bool limited = top_k >= 1 && top_k < static_cast<float>(vocabulary);
  return {settings[0], limited ? static_cast<int64_t>(top_k) : vocabulary, settings[2] < 1 ? settings[2] : 1.0};
}

// ---- keys: logits in order -----------------------------------------------------------------------------------------

// A larger key is a larger logit or, among equals, a lower token. No two keys are the same.
__device__ uint64_t key_of(float logit, int64_t token) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);  // −0 becomes 0
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~token);
}
__device__ int64_t token_of(uint64_t key) { return static_cast<uint32_t>(~key); }

// ---- one row -------------------------------------------------------------------------------------------------------

struct SampleRow {
  const float* logits;  // (V)
  int64_t vocabulary;   // V
  SampleSettings settings;
  double maximum, log_sum;
  const uint32_t* counters;  // (4)

  // Probability before normalisation.
  __device__ double mass(float logit) const {
    return device_exp((static_cast<double>(logit) - maximum) / settings.temperature);
  }
};

// The largest key; 0 when a logit is NaN.
__device__ uint64_t largest_key(const float* logits, int64_t vocabulary) {
  uint64_t largest = 0;
  bool nan = false;
  for (int64_t token = threadIdx.x; token < vocabulary; token += blockDim.x) {
    const uint64_t key = key_of(logits[token], token);
    largest = key > largest ? key : largest;
    nan = nan || isnan(logits[token]);
  }
  if (__syncthreads_or(nan)) return 0;
  return block_reduce(largest, Largest());
}

// The largest key below another; 0 when there is none.
__device__ uint64_t next_key(const float* logits, int64_t vocabulary, uint64_t above) {
  uint64_t largest = 0;
  for (int64_t token = threadIdx.x; token < vocabulary; token += blockDim.x) {
    const uint64_t key = key_of(logits[token], token);
    largest = key > largest && key < above ? key : largest;
  }
  return block_reduce(largest, Largest());
}

// ln Σ exp(logit − maximum).
__device__ double log_sum_of(const float* logits, int64_t vocabulary, float maximum) {
  double sum = 0;
  for (int64_t token = threadIdx.x; token < vocabulary; token += blockDim.x) sum += expf(logits[token] - maximum);
  return device_log(block_reduce(sum, Sum()));
}

// ---- filters -------------------------------------------------------------------------------------------------------

// How many tokens, and how much of the probability before normalisation.
struct Share {
  int64_t tokens;
  double mass;
};
__device__ Share operator+(Share a, Share b) { return {a.tokens + b.tokens, a.mass + b.mass}; }
__device__ Share exchange(const Share& x, int mask) {
  return {__shfl_xor_sync(~0u, x.tokens, mask), __shfl_xor_sync(~0u, x.mass, mask)};
}

// Of the keys in [low, high). The mass is costly and added up only for kMass.
template <bool kMass>
__device__ Share share_of(const SampleRow& row, uint64_t low, uint64_t high) {
  Share share = {0, 0};
  for (int64_t token = threadIdx.x; token < row.vocabulary; token += blockDim.x) {
    const float logit = row.logits[token];
    const uint64_t key = key_of(logit, token);
    if (key < low || key >= high) continue;
    share.tokens++;
    if (kMass) share.mass += row.mass(logit);
  }
  return block_reduce(share, Sum());
}

// The least key of the smallest set of largest keys, at least one, for which enough(share of the set) holds. It holds
// for all keys ≥ low, which are `tokens`; none is ≥ high.
template <bool kMass, class Enough>
__device__ uint64_t least_key(const SampleRow& row, uint64_t low, uint64_t high, int64_t tokens, Enough enough) {
  Share above = {0, 0};  // keys ≥ high; `tokens` are in [low, high)
  while (tokens > 1) {
    const uint64_t middle = low + (high - low) / 2;
    const Share upper = share_of<kMass>(row, middle, high), set = above + upper;
    if (set.tokens > 0 && enough(set)) {
      low = middle;
      tokens = upper.tokens;
    } else {
      high = middle;
      above = set;
      tokens -= upper.tokens;
    }
  }
  return low;
}

// The least key that may be drawn: of the top_k largest and, of those, of the likeliest whose share reaches top_p.
__device__ uint64_t least_candidate(const SampleRow& row, uint64_t largest) {
  const uint64_t high = largest + 1;
  const int64_t k = row.settings.top_k;
  uint64_t low = 0;
  if (k < row.vocabulary)
    low = least_key<false>(row, low, high, row.vocabulary, [=](const Share& set) { return set.tokens >= k; });
  if (row.settings.top_p >= 1) return low;
  const Share all = share_of<true>(row, low, high);
  const double wanted = row.settings.top_p * all.mass;
  return least_key<true>(row, low, high, all.tokens, [=](const Share& set) { return set.mass >= wanted; });
}

// ---- the draw ------------------------------------------------------------------------------------------------------

// The best token so far in a race of logit/temperature + Gumbel noise.
struct Race {
  double score;
  int64_t winner;  // −1: nobody, who still precedes a masked token

  __device__ bool slower(const Race& other) const {
    return score < other.score || (score == other.score && winner > other.winner);
  }
  // A token takes the place if it is slower than `ahead`.
  __device__ void enter(const SampleRow& row, int64_t token, float logit, const Race& ahead) {
    const double base = logit / row.settings.temperature;
    const Philox words = device_philox4x32({{static_cast<uint32_t>(token), row.counters[3], row.counters[2], 0}},
                                           row.counters[0], row.counters[1]);
    if (base + device_gumbel_bound(words) < score) return;
    const Race runner = {base + device_gumbel(words), token};
    if (slower(runner) && runner.slower(ahead)) *this = runner;
  }
};
__device__ Race exchange(const Race& x, int mask) {
  return {__shfl_xor_sync(~0u, x.score, mask), __shfl_xor_sync(~0u, x.winner, mask)};
}

struct Faster {
  __device__ Race operator()(const Race& a, const Race& b) const { return a.slower(b) ? b : a; }
};

// The best of this thread's tokens that may be drawn and are slower than `ahead`.
__device__ Race race(const SampleRow& row, uint64_t least, const Race& ahead) {
  Race best = {-INFINITY, -1};
  for (int64_t token = threadIdx.x; token < row.vocabulary; token += blockDim.x) {
    const float logit = row.logits[token];
    if (key_of(logit, token) >= least) best.enter(row, token, logit, ahead);
  }
  return best;
}

// Where the M tokens of a row go.
struct Drawn {
  int32_t* token;          // (M)
  float* log_probability;  // (M)
  int64_t M;

  __device__ void put(const SampleRow& row, int64_t place, int64_t drawn) const {
    if (threadIdx.x > 0) return;
    token[place] = static_cast<int32_t>(drawn);
    log_probability[place] = drawn < 0 ? NAN : static_cast<float>(row.logits[drawn] - row.maximum - row.log_sum);
  }
};

__device__ void draw_largest(const SampleRow& row, uint64_t largest, const Drawn& drawn) {
  uint64_t key = largest;
  for (int64_t place = 0; place < drawn.M; place++) {
    if (place > 0 && key > 0) key = next_key(row.logits, row.vocabulary, key);
    const int64_t token = key > 0 && row.logits[token_of(key)] > -INFINITY ? token_of(key) : -1;
    drawn.put(row, place, token);
  }
}

// After each place only the thread that had it looks for its next best.
__device__ void draw_with_noise(const SampleRow& row, uint64_t least, const Drawn& drawn) {
  Race best = {}, won = {INFINITY, -1};
  for (int64_t place = 0; place < drawn.M; place++) {
    if (place == 0 || (won.winner >= 0 && won.winner == best.winner)) best = race(row, least, won);
    won = block_reduce(best, Faster());
    drawn.put(row, place, won.winner);
  }
}

// ---- sample --------------------------------------------------------------------------------------------------------

// A decoding step has fewer rows than the device has multiprocessors: one block on each may have all registers.
__global__ void __launch_bounds__(kThreads, 1)
    sample_kernel(const float* logits /*(R,V)*/, const float* settings /*(R,3)*/, const uint32_t* counters /*(R,4)*/,
                  int32_t* token /*(R,M)*/, float* log_probability /*(R,M)*/, int64_t V, int64_t M) {
  const int64_t r = blockIdx.x;
  logits += r * V;
  const Drawn drawn = {token + r * M, log_probability + r * M, M};
  SampleRow row = {logits, V, sample_settings(settings + r * 3, V), 0, 0, counters + r * 4};
  const uint64_t largest = largest_key(logits, V);
  const float maximum = largest ? logits[token_of(largest)] : INFINITY;
  if (!isfinite(maximum)) {
    for (int64_t place = 0; place < M; place++) drawn.put(row, place, -1);
    return;
  }
  row.maximum = maximum;
  row.log_sum = log_sum_of(logits, V, maximum);
  if (row.settings.temperature > 0)
    draw_with_noise(row, least_candidate(row, largest), drawn);
  else
    draw_largest(row, largest, drawn);
}

void sample(const Call& call, In logits, In settings, In counters, Out token, Out log_probability) {
  const int64_t V = last_dimension(logits), M = token.rank > 1 ? last_dimension(token) : 1;
  launch(call, row_count(logits), threads_for(V), sample_kernel, elements<float>(logits), elements<float>(settings),
         elements<uint32_t>(counters), elements<int32_t>(token), elements<float>(log_probability), V, M);
}

}  // namespace

void fill_sample(Kernels& table) { table.sample = {sample}; }

}  // namespace foretoken::cuda
