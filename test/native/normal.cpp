// normal.h: the portable logarithm, exponential and cosine against the library's, and the distributions they make.
#include "core/normal.h"

#include <algorithm>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

// Largest distance between the empirical distribution and `cumulative` (Kolmogorov–Smirnov).
template <class Cumulative>
double distance(std::vector<double> samples, Cumulative cumulative) {
  std::sort(samples.begin(), samples.end());
  double n = static_cast<double>(samples.size()), worst = 0;
  for (size_t i = 0; i < samples.size(); i++) {
    double p = cumulative(samples[i]);
    worst = std::max({worst, std::abs(p - i / n), std::abs(p - (i + 1) / n)});
  }
  return worst;
}

constexpr int kSamples = 100000;
// Exceeded by chance once in ten thousand seeds; the seeds here are fixed.
const double kDistanceBound = 2.2 / std::sqrt(kSamples);

template <class Draw>
std::vector<double> samples(Draw draw) {
  std::vector<double> values(kSamples);
  for (int i = 0; i < kSamples; i++) values[i] = draw(philox(42, 7, i));
  return values;
}

}  // namespace

TEST_CASE("normal: portable log, exp and cosine agree with the library") {
  double log_error = 0, exp_error = 0, cosine_error = 0;
  std::mt19937_64 engine(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int i = 0; i < 200000; i++) {
    double x = std::exp(1400 * uniform(engine) - 700), near_one = 1 + (uniform(engine) - 0.5) * 1e-3;
    for (double value : {x, near_one})
      log_error = std::max(log_error, std::abs(portable_log(value) / std::log(value) - 1));
    double negative = -700 * uniform(engine);
    exp_error = std::max(exp_error, std::abs(portable_exp(negative) / std::exp(negative) - 1));
    double t = uniform(engine);
    cosine_error = std::max(cosine_error, std::abs(portable_cosine_of_turns(t) - std::cos(2 * kPi * t)));
  }
  CHECK(log_error < 1e-13);
  CHECK(exp_error < 2e-13);
  CHECK(cosine_error < 1e-14);
  CHECK(portable_exp(0) == 1.0);
  CHECK(portable_exp(-1e9) == 0.0);
  CHECK(portable_exp(-INFINITY) == 0.0);
  for (double t : {0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0})  // where the quarter turn changes
    CHECK(std::abs(portable_cosine_of_turns(t) - std::cos(2 * kPi * t)) < 1e-14);
}

TEST_CASE("normal: uniform numbers stay strictly between 0 and 1, so noise is finite") {
  CHECK(philox_open_uniform(0, 0) > 0);
  CHECK(philox_open_uniform(~0u, ~0u) < 1);
  for (uint32_t word : {0u, 1u, 0x7fffffffu, 0x80000000u, ~0u}) {
    CHECK(std::isfinite(normal(Philox{{word, word, word, word}})));
    CHECK(std::isfinite(gumbel(Philox{{word, word, word, word}})));
  }
}

TEST_CASE("normal: numbers are normally distributed, moments and distribution") {
  std::vector<double> values = samples(normal);
  double moments[5] = {};
  for (double value : values)
    for (int k = 1; k <= 4; k++) moments[k] += std::pow(value, k) / kSamples;
  // Four standard errors: √(Var xᵏ / n).
  CHECK(std::abs(moments[1]) < 4 / std::sqrt(kSamples));
  CHECK(std::abs(moments[2] - 1) < 4 * std::sqrt(2.0 / kSamples));
  CHECK(std::abs(moments[3]) < 4 * std::sqrt(15.0 / kSamples));
  CHECK(std::abs(moments[4] - 3) < 4 * std::sqrt(96.0 / kSamples));
  CHECK(distance(values, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }) < kDistanceBound);
}

TEST_CASE("normal: Gumbel numbers have the Gumbel distribution and never exceed their bound") {
  CHECK(distance(samples(gumbel), [](double x) { return std::exp(-std::exp(-x)); }) < kDistanceBound);
  for (int i = 0; i < kSamples; i++) {
    Philox words = philox(3, 4, i);
    for (int ones : {0, 1, 5, 20, 31, 32}) {  // leading ones of the first word: what the bound looks at
      if (ones) words.v[0] |= ~0u << (32 - ones);
      if (!(gumbel(words) <= gumbel_bound(words))) FAIL_CHECK("bound too small for " << words.v[0]);
    }
  }
}
