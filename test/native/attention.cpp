// attention and attention_backward, every level and dtype, against the composition with its T×T matrix in f64.
#include <functional>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  const char* path;  // what this shape is here for
  int64_t B, T, H, G, D;
  int64_t document;   // documents of about this many tokens; 0: none; −1: any first key up to t
  double spread = 1;  // standard deviation of q and k

  int64_t queries() const { return B * T * H * D; }
  int64_t keys() const { return B * T * G * D; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(D)); }
};

const std::vector<Case> kCases = {
    {"one token", 2, 1, 2, 1, 2, 0},
    {"two tokens, odd half width", 1, 2, 2, 2, 6, 0},
    {"one below half a block", 1, 31, 4, 2, 8, 0},
    {"half a block, width below a vector", 1, 32, 3, 1, 6, 0},
    {"documents within a block", 2, 33, 4, 4, 32, 7},
    {"one whole block", 2, 64, 4, 4, 64, 0},
    {"a block and one more", 1, 65, 2, 1, 64, 0},
    {"width that is no multiple of 32", 1, 65, 4, 2, 80, 30},
    {"several blocks, blocks skipped before the first key", 2, 200, 4, 2, 64, 90},
    {"wide heads", 1, 130, 2, 2, 128, 0},
    {"first keys in no order", 1, 200, 2, 1, 32, -1},
    {"peaked softmax", 1, 150, 2, 2, 64, 0, 4},
    {"two ranges of keys, a task each", 1, 600, 2, 1, 16, 400},
    {"three ranges of keys in one task", 16, 1030, 1, 1, 2, 700},
};

// A GPU's kernels have no such tasks, and a software one would take minutes for these two.
std::vector<Case> cases_here() {
  std::vector<Case> cases = kCases;
  if (gpu::backend()) cases.resize(cases.size() - 2);
  return cases;
}

std::vector<double> first_keys(const Case& c) {
  std::vector<double> first(c.B * c.T);
  std::mt19937_64 engine(5);
  for (int64_t b = 0; b < c.B; b++) {
    double start = 0;
    for (int64_t t = 0; t < c.T; t++) {
      if (c.document > 0 && engine() % c.document == 0) start = static_cast<double>(t);
      if (c.document < 0) start = static_cast<double>(engine() % (t + 1));
      first[b * c.T + t] = start;
    }
  }
  return first;
}

// Inputs as a kernel of dtype S sees them, and the outputs it writes.
template <class S>
struct Problem {
  using L = std::conditional_t<std::is_same_v<S, double>, double, float>;
  Case c;
  Buffer<S> q, k, v, dout, out, dq, dk, dv;
  Buffer<L> lse;
  Buffer<int32_t> first;

  explicit Problem(const Case& c_)
      : c(c_),
        q(Buffer<S>::of(random_normal(c.queries(), c.spread, 1), 1)),
        k(Buffer<S>::of(random_normal(c.keys(), c.spread, 2), 1)),
        v(Buffer<S>::of(random_normal(c.keys(), 1, 3), 1)),
        dout(Buffer<S>::of(random_normal(c.queries(), 1, 4), 1)),
        out(c.queries(), 1),
        dq(c.queries(), 1),
        dk(c.keys(), 1),
        dv(c.keys(), 1),
        lse(c.B * c.H * c.T, 1),
        first(Buffer<int32_t>::of(first_keys(c))) {}

  AnyView query_view(const Buffer<S>& x) const { return view_of(x, {c.B, c.T, c.H, c.D}); }
  AnyView key_view(const Buffer<S>& x) const { return view_of(x, {c.B, c.T, c.G, c.D}); }
  AnyView first_view() const { return c.document ? view_of(first, {c.B, c.T}) : absent; }
  AnyView lse_view() const { return view_of(lse, {c.B, c.H, c.T}); }

  void forward(const Kernels& kernels, const Parallel& parallel = {}) {
    run_on(parallel, kernels.attention, query_view(q), key_view(k), key_view(v), first_view(), query_view(out),
           lse_view(), c.scale());
  }
  void backward(const Kernels& kernels, const Parallel& parallel = {}) {
    run_on(parallel, kernels.attention_backward, query_view(q), key_view(k), key_view(v), first_view(), query_view(out),
           lse_view(), query_view(dout), query_view(dq), key_view(dk), key_view(dv), c.scale());
  }
  bool guards_intact() const {
    return q.guards_intact() && out.guards_intact() && lse.guards_intact() && dq.guards_intact() &&
           dk.guards_intact() && dv.guards_intact();
  }
  bool same_bits(const Problem& other) const {
    return out.same_bits(other.out) && lse.same_bits(other.lse) && dq.same_bits(other.dq) && dk.same_bits(other.dk) &&
           dv.same_bits(other.dv);
  }
};

struct Result {
  std::vector<double> out, lse, dq, dk, dv;
};

// The textbook composition: scores, softmax, product, and their derivatives, one row of the T×T matrices at a time.
// `rounded` is applied to every matrix as an unfused implementation would store it.
template <class S>
Result composition(const Problem<S>& problem, const std::function<double(double)>& rounded) {
  const Case& c = problem.c;
  auto q = problem.q.values(), k = problem.k.values(), v = problem.v.values(), dout = problem.dout.values();
  Result r{std::vector<double>(c.queries()), std::vector<double>(c.B * c.H * c.T), std::vector<double>(c.queries()),
           std::vector<double>(c.keys()), std::vector<double>(c.keys())};
  std::vector<double> p(c.T), dp(c.T);
  for (int64_t b = 0; b < c.B; b++) {
    for (int64_t h = 0; h < c.H; h++) {
      auto key = [&](int64_t s) { return ((b * c.T + s) * c.G + h / (c.H / c.G)) * c.D; };
      for (int64_t t = 0; t < c.T; t++) {
        int64_t row = ((b * c.T + t) * c.H + h) * c.D, first = c.document ? problem.first[b * c.T + t] : 0;
        double largest = -1e300, total = 0, delta = 0;
        for (int64_t s = first; s <= t; s++) {
          double sum = 0, gradient = 0;
          for (int64_t i = 0; i < c.D; i++) sum += q[row + i] * k[key(s) + i];
          for (int64_t i = 0; i < c.D; i++) gradient += dout[row + i] * v[key(s) + i];
          p[s] = rounded(c.scale() * sum), dp[s] = rounded(gradient);
          largest = std::max(largest, p[s]);
        }
        for (int64_t s = first; s <= t; s++) total += std::exp(p[s] - largest);
        r.lse[(b * c.H + h) * c.T + t] = largest + std::log(total);
        for (int64_t s = first; s <= t; s++) {
          p[s] = rounded(std::exp(p[s] - largest) / total);
          delta += p[s] * dp[s];
        }
        for (int64_t s = first; s <= t; s++) {
          double dscore = rounded(p[s] * (dp[s] - delta)) * c.scale();
          for (int64_t i = 0; i < c.D; i++) {
            r.out[row + i] += p[s] * v[key(s) + i];
            r.dq[row + i] += dscore * k[key(s) + i];
            r.dk[key(s) + i] += dscore * q[row + i];
            r.dv[key(s) + i] += p[s] * dout[row + i];
          }
        }
      }
    }
  }
  for (auto* values : {&r.out, &r.dq, &r.dk, &r.dv})
    for (double& x : *values) x = rounded(x);
  return r;
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (double x : values) result = std::max(result, std::abs(x));
  return result;
}

double exactly(double x) { return x; }
double as_bf16(double x) { return to_double(from_double<bf16>(x)); }

template <class S>
void run_both(Problem<S>& problem, const Kernels& kernels) {
  problem.forward(kernels);
  problem.backward(kernels);
}

}  // namespace

TEST_CASE("attention: the f64 plain loops are the composition") {
  for (const Case& c : kCases) {
    INFO(c.path);
    Problem<double> problem(c);
    run_both(problem, oracle());
    Result expected = composition(problem, exactly);
    CHECK(max_error(problem.out.values(), expected.out) < 1e-13);
    CHECK(max_error(problem.lse.values(), expected.lse) < 1e-13);
    CHECK(max_error(problem.dq.values(), expected.dq) < 1e-13 * (1 + c.spread * c.T));
    CHECK(max_error(problem.dk.values(), expected.dk) < 1e-13 * (1 + c.spread * c.T));
    CHECK(max_error(problem.dv.values(), expected.dv) < 1e-13 * (1 + c.spread * c.T));
  }
}

TEST_CASE("attention: gradients are those of finite differences, f64") {
  Problem<double> problem({"", 2, 6, 4, 2, 6, 3});
  run_both(problem, oracle());
  auto objective = [&] {
    Problem<double> probe = problem;
    probe.forward(oracle());
    double sum = 0;
    for (int64_t i = 0; i < probe.out.size(); i++) sum += probe.out[i] * probe.dout[i];
    return sum;
  };
  auto check = [&](Buffer<double>& x, const Buffer<double>& gradient) {
    for (int64_t i = 0; i < x.size(); i += 5) {
      double kept = x[i], step = 1e-5;
      x[i] = kept + step;
      double above = objective();
      x[i] = kept - step;
      double below = objective();
      x[i] = kept;
      CHECK(gradient[i] == doctest::Approx((above - below) / (2 * step)).epsilon(1e-6));
    }
  };
  check(problem.q, problem.dq);
  check(problem.k, problem.dk);
  check(problem.v, problem.dv);
}

// Sums of D and of T products and an exponential to 2 ulp: some √(D+T) roundings of 2⁻²⁴, taken relative to the
// largest.
TEST_CASE("attention: f32 at every level") {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : cases_here()) {
      INFO(c.path);
      Problem<float> problem(c);
      run_both(problem, *backend.kernels);
      Result expected = composition(problem, exactly);
      double sharpness = c.spread * c.spread;  // an error of the scores is that much larger
      CHECK(max_error(problem.out.values(), expected.out) < 3e-6 * sharpness);
      CHECK(max_error(problem.lse.values(), expected.lse) < 3e-6 * sharpness);
      CHECK(max_error(problem.dq.values(), expected.dq) < 3e-6 * sharpness * (1 + largest(expected.dq)));
      CHECK(max_error(problem.dk.values(), expected.dk) < 3e-6 * sharpness * (1 + largest(expected.dk)));
      CHECK(max_error(problem.dv.values(), expected.dv) < 3e-6 * sharpness * (1 + largest(expected.dv)));
      CHECK(problem.guards_intact());
    }
  });
}

// At most twice the error of the unfused composition in bf16, plus half a bf16 step of the largest value.
TEST_CASE("attention: bf16 at every level") {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : cases_here()) {
      INFO(c.path);
      Problem<bf16> problem(c);
      run_both(problem, *backend.kernels);
      Result expected = composition(problem, exactly), plain = composition(problem, as_bf16);
      auto check = [&](const std::vector<double>& actual, std::vector<double> Result::* of) {
        double allowed = 2 * max_error(plain.*of, expected.*of) + largest(expected.*of) / 256;
        CHECK(max_error(actual, expected.*of) <= allowed);
      };
      check(problem.out.values(), &Result::out);
      check(problem.dq.values(), &Result::dq);
      check(problem.dk.values(), &Result::dk);
      check(problem.dv.values(), &Result::dv);
      CHECK(max_error(problem.lse.values(), expected.lse) <
            2e-5);  // sums are f32, truncated at worst: no bf16 step in lse
      CHECK(problem.guards_intact());
    }
  });
}

TEST_CASE_TEMPLATE("attention: bits depend on neither threads nor task order", S, float, bf16) {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : cases_here()) {
      INFO(c.path);
      Problem<S> alone(c), shuffled(c);
      run_both(alone, *backend.kernels);
      shuffled.forward(*backend.kernels, ShuffledParallel(3, 7));
      shuffled.backward(*backend.kernels, ShuffledParallel(5, 8));
      CHECK(alone.same_bits(shuffled));
    }
  });
}

TEST_CASE_TEMPLATE("attention: a sequence has the same bits alone and in a batch", S, float, bf16) {
  std::vector<Case> cases = {{"one range of keys", 3, 97, 4, 2, 32, 0},
                             {"ranges in one task and, alone, in a task each", 16, 700, 1, 1, 8, 0}};
  if (gpu::backend()) cases.pop_back();
  for_each_level([&](const Backend& backend) {
    for (const Case& c : cases) {
      INFO(c.path);
      Problem<S> batch(c);
      run_both(batch, *backend.kernels);
      Case single = c;
      single.B = 1;
      Problem<S> last(single);
      auto take_last = [&](Buffer<S>& to, const Buffer<S>& from) {
        std::memcpy(to.data(), from.data() + from.size() - to.size(), to.size() * sizeof(S));
      };
      take_last(last.q, batch.q), take_last(last.k, batch.k), take_last(last.v, batch.v);
      take_last(last.dout, batch.dout);
      run_both(last, *backend.kernels);
      auto same_as_last = [&](const Buffer<S>& mine, const Buffer<S>& whole) {
        return std::memcmp(mine.data(), whole.data() + whole.size() - mine.size(), mine.size() * sizeof(S)) == 0;
      };
      CHECK(same_as_last(last.out, batch.out));
      CHECK(same_as_last(last.dq, batch.dq));
      CHECK(same_as_last(last.dk, batch.dk));
      CHECK(same_as_last(last.dv, batch.dv));
    }
  });
}

TEST_CASE_TEMPLATE("attention: scores of ±10⁴ stay finite and pick the right value", S, float, bf16) {
  Case c{"", 1, 130, 2, 1, 64, 0, 60};
  for_each_level([&](const Backend& backend) {
    Problem<S> problem(c);
    run_both(problem, *backend.kernels);
    Result expected = composition(problem, exactly);
    CHECK(largest(expected.lse) > 5e3);
    // A score of 10⁴ is known to about 10⁻³ in f32, so near-ties between two keys may shift by that much.
    CHECK(max_error(problem.out.values(), expected.out) < 0.02);
    for (const auto& gradient : {problem.dq.values(), problem.dk.values(), problem.dv.values()})
      CHECK(std::isfinite(max_error(gradient, std::vector<double>(gradient.size()))));
  });
}

TEST_CASE("attention: a NaN in one sequence stays in it") {
  Case c{"", 2, 70, 2, 2, 16, 0};
  for_each_level([&](const Backend& backend) {
    Problem<float> clean(c), spoiled(c);
    spoiled.k[3] = NAN;  // batch row 0, position 0
    run_both(clean, *backend.kernels);
    run_both(spoiled, *backend.kernels);
    int64_t half = c.queries() / 2;
    CHECK(std::isnan(spoiled.out[0]));
    CHECK(std::memcmp(clean.out.data() + half, spoiled.out.data() + half, half * sizeof(float)) == 0);
    CHECK(std::memcmp(clean.dv.data() + half, spoiled.dv.data() + half, half * sizeof(float)) == 0);
  });
}
