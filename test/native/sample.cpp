// sample: distributions by chi-squared, filters as exact sets, ties, NaN, independence of rows.
#include <algorithm>
#include <numeric>
#include <set>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Settings {
  double temperature, top_k, top_p;
};

struct Drawn {
  std::vector<int32_t> token;
  std::vector<double> log_probability;
};

// `rows` copies of the same logits, at positions first, first+1, …. M tokens of each; 0: one, in outputs of shape (R).
Drawn draw(const Kernels& kernels, const std::vector<double>& logits, Settings settings, int64_t rows,
           int32_t first = 0, int32_t request = 3, const Parallel& parallel = {}, int64_t M = 0) {
  int64_t vocabulary = static_cast<int64_t>(logits.size());
  std::vector<double> all, options, counts;
  for (int64_t r = 0; r < rows; r++) {
    all.insert(all.end(), logits.begin(), logits.end());
    for (double option : {settings.temperature, settings.top_k, settings.top_p}) options.push_back(option);
    for (int32_t count : {17, 23, request, first + static_cast<int32_t>(r)}) counts.push_back(count);
  }
  auto x = Buffer<float>::of(all), options_buffer = Buffer<float>::of(options);
  auto counters = Buffer<int32_t>::of(counts);
  const int64_t drawn = rows * std::max<int64_t>(M, 1);
  const auto shaped = [&](const auto& x) { return M > 0 ? view_of(x, {rows, M}) : view_of(x, {rows}); };
  Buffer<int32_t> token(drawn, 1);
  Buffer<float> log_probability(drawn, 1);
  run_on(parallel, kernels.sample, view_of(x, {rows, vocabulary}), view_of(options_buffer, {rows, 3}),
         view_of(counters, {rows, 4}), shaped(token), shaped(log_probability));
  CHECK(token.guards_intact());
  CHECK(log_probability.guards_intact());
  return {std::vector<int32_t>(token.data(), token.data() + drawn), log_probability.values()};
}

std::vector<double> softmax(const std::vector<double>& logits, double temperature = 1) {
  double largest = *std::max_element(logits.begin(), logits.end()), total = 0;
  std::vector<double> p;
  for (double logit : logits) p.push_back(std::exp((static_cast<float>(logit) - largest) / temperature));
  for (double value : p) total += value;
  for (double& value : p) value /= total;
  return p;
}

// The filtered distribution by sorting everything: top_k, then of those the smallest set of probability ≥ top_p.
std::vector<double> filtered(const std::vector<double>& logits, Settings settings) {
  std::vector<double> p = softmax(logits, settings.temperature), kept(p.size(), 0.0);
  std::vector<int> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  if (settings.top_k > 0 && settings.top_k < static_cast<double>(order.size())) order.resize(settings.top_k);
  double total = 0, reached = 0, kept_total = 0;
  for (int token : order) total += p[token];
  for (int token : order) {
    kept[token] = p[token];
    kept_total += p[token];
    reached += p[token] / total;
    if (reached >= settings.top_p) break;
  }
  for (double& value : kept) value /= kept_total;
  return kept;
}

// χ² of the draws, normalised to its standard deviation above the mean.
double excess(const std::vector<int32_t>& tokens, const std::vector<double>& p) {
  std::vector<double> count(p.size(), 0.0);
  for (int32_t token : tokens) count[token]++;
  double chi_squared = 0, cells = -1, n = static_cast<double>(tokens.size());
  for (size_t token = 0; token < p.size(); token++) {
    if (p[token] == 0) {
      CHECK(count[token] == 0);
      continue;
    }
    chi_squared += (count[token] - n * p[token]) * (count[token] - n * p[token]) / (n * p[token]);
    cells++;
  }
  return (chi_squared - cells) / std::sqrt(2 * std::max(1.0, cells));
}

std::set<int32_t> support(const std::vector<double>& p) {
  std::set<int32_t> tokens;
  for (size_t token = 0; token < p.size(); token++)
    if (p[token] > 0) tokens.insert(static_cast<int32_t>(token));
  return tokens;
}

}  // namespace

TEST_CASE("sample: draws follow the tempered and filtered distribution") {
  std::vector<double> logits = random_normal(37, 1, 61);
  const int64_t kDraws = gpu::backend() ? 2000 : 20000;
  for_each_level([&](const Backend& backend) {
    for (Settings settings : {Settings{1, 0, 1}, {0.7, 0, 1}, {1.5, 0, 1}, {1, 5, 1}, {1, 0, 0.6}, {0.8, 10, 0.7}}) {
      CAPTURE(settings.temperature);
      CAPTURE(settings.top_k);
      CAPTURE(settings.top_p);
      // Fixed seeds; 5 standard deviations leave no room for a wrong distribution of 20,000 draws.
      CHECK(excess(draw(*backend.kernels, logits, settings, kDraws).token, filtered(logits, settings)) < 5);
    }
  });
}

TEST_CASE("sample: the filtered set is exactly the reference's") {
  // Flat enough that everything kept turns up in 400 draws; with equal logits, so that ties are cut by index.
  std::vector<double> logits = {1, 0.5, 1, 0.25, 0.75, 1, 0.5, 0.25, 0, 0.75, 1.25, 0.5};
  for_each_level([&](const Backend& backend) {
    for (double top_k : {0., 1., 2., 3., 4., 6., 11., 12., 13., 1e9})
      for (double top_p : {-1., 0., 0.05, 0.2, 0.5, 0.9, 0.999, 1., 2.}) {
        Settings settings = {1.3, top_k, top_p};
        CAPTURE(top_k);
        CAPTURE(top_p);
        auto tokens = draw(*backend.kernels, logits, settings, gpu::backend() ? 400 : 3000).token;
        CHECK(std::set<int32_t>(tokens.begin(), tokens.end()) == support(filtered(logits, settings)));
      }
  });
}

TEST_CASE("sample: a probability that reaches top_p exactly is enough") {
  for_each_level([](const Backend& backend) {
    for (int32_t quarters : {1, 2, 3}) {
      CAPTURE(quarters);
      auto tokens = draw(*backend.kernels, {2, 2, 2, 2}, {1, 0, quarters / 4.0}, 300).token;
      CHECK(*std::max_element(tokens.begin(), tokens.end()) == quarters - 1);
    }
  });
}

TEST_CASE("sample: filters over a wide vocabulary, the same tokens at every level") {
  for (double spread : {0.01, 1.0, 4.0}) {  // nearly flat: the nucleus is most of the vocabulary; then smaller
    std::vector<double> logits = random_normal(5000, spread, 62);
    for (Settings settings : {Settings{1, 0, 0.3}, {1, 0, 0.95}, {1, 700, 1}, {1, 700, 0.9}, {1, 4999, 0.9999}}) {
      CAPTURE(spread);
      CAPTURE(settings.top_k);
      CAPTURE(settings.top_p);
      std::set<int32_t> allowed = support(filtered(logits, settings));
      std::vector<int32_t> first;
      for_each_level([&](const Backend& backend) {
        auto tokens = draw(*backend.kernels, logits, settings, 50).token;
        for (int32_t token : tokens) CHECK(allowed.count(token) == 1);
        if (first.empty()) first = tokens;
        CHECK(tokens == first);
      });
    }
  }
}

TEST_CASE("sample: temperature 0 takes the largest, the lowest index among equals") {
  for_each_level([](const Backend& backend) {
    for (int64_t vocabulary : {1, 7, 8, 15, 16, 17, 33, 1000}) {
      CAPTURE(vocabulary);
      std::vector<double> logits = random_normal(vocabulary, 1, 63);
      auto largest = std::max_element(logits.begin(), logits.end()) - logits.begin();
      CHECK(draw(*backend.kernels, logits, {0, 0, 1}, 1).token[0] == largest);
      logits.assign(vocabulary, -3.0);
      CHECK(draw(*backend.kernels, logits, {0, 0, 1}, 1).token[0] == 0);
      logits[vocabulary - 1] = -2;
      CHECK(draw(*backend.kernels, logits, {0, 0, 1}, 1).token[0] == vocabulary - 1);
      CHECK(draw(*backend.kernels, logits, {5, 1, 1}, 1).token[0] == vocabulary - 1);
    }
    CHECK(draw(*backend.kernels, {-0.0, 0.0, -0.0}, {0, 0, 1}, 1).token[0] == 0);
    CHECK(draw(*backend.kernels, {-0.0, 0.0, -0.0}, {1, 1, 1}, 1).token[0] == 0);
  });
}

TEST_CASE("sample: log_probability is that of the untempered, unfiltered softmax") {
  for_each_level([](const Backend& backend) {
    for (int64_t vocabulary : {1, 7, 17, 1000, 16384 + 9}) {
      CAPTURE(vocabulary);
      std::vector<double> logits = random_normal(vocabulary, 3, 64), p = softmax(logits);
      for (Settings settings : {Settings{0, 0, 1}, {0.5, 3, 0.9}, {2, 0, 1}}) {
        Drawn drawn = draw(*backend.kernels, logits, settings, 4);
        for (int i = 0; i < 4; i++)
          CHECK(std::abs(drawn.log_probability[i] - std::log(p[drawn.token[i]])) < 4e-6);  // |log p| < 20, in float
      }
    }
  });
}

TEST_CASE("sample: masked tokens are never drawn, a row without a distribution gives -1") {
  for_each_level([](const Backend& backend) {
    const double inf = INFINITY;
    auto masked = draw(*backend.kernels, {-inf, 0, -inf, 0, -inf}, {1, 0, 1}, 500).token;
    CHECK(std::set<int32_t>(masked.begin(), masked.end()) == std::set<int32_t>{1, 3});
    for (Settings settings : {Settings{0, 0, 1}, {1, 0, 1}, {1, 2, 0.5}})
      for (int64_t place : {0, 3, 16, 20}) {
        for (double bad : {static_cast<double>(NAN), inf}) {
          std::vector<double> logits = random_normal(21, 1, 65);
          logits[place] = bad;
          Drawn drawn = draw(*backend.kernels, logits, settings, 2);
          CHECK(drawn.token[1] == -1);
          CHECK(std::isnan(drawn.log_probability[1]));
        }
      }
    CHECK(draw(*backend.kernels, std::vector<double>(19, -inf), {1, 0, 1}, 1).token[0] == -1);
  });
}

TEST_CASE("sample: a row depends on its own logits, seed, request and position alone") {
  std::vector<double> logits = random_normal(300, 1, 66);
  for_each_level([&](const Backend& backend) {
    const Kernels& kernels = *backend.kernels;
    Settings settings = {1, 50, 0.95};
    Drawn together = draw(kernels, logits, settings, 20, 100),
          shuffled = draw(kernels, logits, settings, 20, 100, 3, ShuffledParallel(4));
    CHECK(shuffled.token == together.token);
    CHECK(shuffled.log_probability == together.log_probability);
    for (int row : {0, 7, 19}) CHECK(draw(kernels, logits, settings, 1, 100 + row).token[0] == together.token[row]);
    CHECK(draw(kernels, logits, settings, 20, 100, 4).token != together.token);
    CHECK(draw(kernels, logits, settings, 20, 200).token != together.token);
  });
}

// ---- the M best ----------------------------------------------------------------------------------------------------

namespace {

Drawn best(const Kernels& kernels, const std::vector<double>& logits, Settings settings, int64_t M,
           int32_t position = 0, int64_t rows = 1) {
  return draw(kernels, logits, settings, rows, position, 3, ShuffledParallel(2), M);
}

// The same by drawing one token after the other, what was drawn and what the filters leave out being masked.
std::vector<int32_t> one_by_one(const Kernels& kernels, std::vector<double> logits, Settings settings, int64_t M,
                                int32_t position) {
  const std::set<int32_t> kept = support(filtered(logits, settings));
  for (size_t token = 0; token < logits.size(); token++)
    if (kept.count(static_cast<int32_t>(token)) == 0) logits[token] = -INFINITY;
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < M; i++) {
    tokens.push_back(draw(kernels, logits, {settings.temperature, 0, 1}, 1, position).token[0]);
    if (tokens.back() >= 0) logits[tokens.back()] = -INFINITY;
  }
  return tokens;
}

void check_log_probabilities(const Drawn& drawn, const std::vector<double>& logits) {
  const std::vector<double> p = softmax(logits);
  for (size_t i = 0; i < drawn.token.size(); i++) {
    if (drawn.token[i] < 0)
      CHECK(std::isnan(drawn.log_probability[i]));
    else
      CHECK(std::abs(drawn.log_probability[i] - std::log(p[drawn.token[i]])) < 4e-6);  // |log p| < 20, in float
  }
}

}  // namespace

TEST_CASE("sample: the M best are what M draws without replacement give") {
  for_each_level([](const Backend& backend) {
    const Kernels& kernels = *backend.kernels;
    for (int64_t vocabulary : {1, 5, 40, 700}) {  // 700: more than one token a thread of a GPU
      CAPTURE(vocabulary);
      const std::vector<double> logits = random_normal(vocabulary, 2, 67);
      for (Settings settings : {Settings{1, 0, 1}, {0.7, 0, 1}, {1.3, 8, 1}, {1, 0, 0.8}, {1, 9, 0.9}})
        for (int64_t M : {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{12}}) {
          CAPTURE(settings.top_k);
          CAPTURE(settings.top_p);
          CAPTURE(M);
          const Drawn drawn = best(kernels, logits, settings, M, 11);
          CHECK(drawn.token == one_by_one(kernels, logits, settings, M, 11));
          check_log_probabilities(drawn, logits);
        }
    }
  });
}

TEST_CASE("sample: temperature 0 takes the M largest, lower tokens first among equals") {
  for_each_level([](const Backend& backend) {
    std::vector<double> logits = random_normal(90, 1, 68);
    for (double& logit : logits) logit = std::round(4 * logit) / 4;  // many equals, zeros of both signs
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    order.resize(100, -1);
    for (int64_t M : {1, 2, 3, 64, 90, 100}) {
      CAPTURE(M);
      const Drawn drawn = best(*backend.kernels, logits, {0, 1, 0.1}, M);
      CHECK(drawn.token == std::vector<int32_t>(order.begin(), order.begin() + M));
      check_log_probabilities(drawn, logits);
    }
  });
}

TEST_CASE("sample: among the M best, equals come in order of their tokens and nobody beyond the last") {
  for_each_level([](const Backend& backend) {
    const Kernels& kernels = *backend.kernels;
    const double inf = INFINITY;
    const std::vector<double> logits = {-inf, 0.5, -inf, 0.25, 1, -inf};
    CHECK(best(kernels, logits, {0, 0, 1}, 8).token == std::vector<int32_t>{4, 1, 3, -1, -1, -1, -1, -1});
    CHECK(best(kernels, logits, {1e-6, 5, 1}, 4).token == std::vector<int32_t>{4, 1, 3, -1});
    CHECK(best(kernels, logits, {1e-6, 2, 1}, 3).token == std::vector<int32_t>{4, 1, -1});
    const Drawn all = best(kernels, {7}, {1, 0, 1}, 70);
    CHECK(all.token[0] == 0);
    CHECK(std::count(all.token.begin(), all.token.end(), -1) == 69);
    for (Settings settings : {Settings{0, 0, 1}, {1, 0, 1}, {1, 2, 0.5}})
      for (double bad : {static_cast<double>(NAN), inf}) {
        const Drawn none = best(kernels, {1, bad, 2}, settings, 2, 0, 2);
        CHECK(none.token == std::vector<int32_t>(4, -1));
        for (double log_probability : none.log_probability) CHECK(std::isnan(log_probability));
      }
  });
}

TEST_CASE("sample: the first of the M best is the one token, in each of many rows, on any threads") {
  const std::vector<double> logits = random_normal(300, 1, 69);
  for_each_level([&](const Backend& backend) {
    for (Settings settings : {Settings{0, 0, 1}, {1, 0, 1}, {1, 50, 0.95}}) {
      const Drawn one = draw(*backend.kernels, logits, settings, 20, 100);
      const Drawn three = best(*backend.kernels, logits, settings, 3, 100, 20);
      for (int r = 0; r < 20; r++) {
        CHECK(three.token[3 * r] == one.token[r]);
        CHECK(three.log_probability[3 * r] == one.log_probability[r]);
      }
    }
  });
}
