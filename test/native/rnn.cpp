// rnn and rnn_backward, every level and dtype, against a plain recurrence in f64.
#include <functional>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  const char* path;
  int64_t B, T, d;
  bool h0;
};

const std::vector<Case> kCases = {
    {"one step, smallest width", 1, 1, 1, false},
    {"one step from a given state", 3, 1, 8, true},
    {"width below a panel", 2, 7, 5, true},
    {"one vector wide", 2, 31, 16, false},
    {"odd width, odd rows", 5, 33, 33, true},
    {"a block of steps", 8, 64, 64, false},
    {"a block of steps and one more, two column blocks", 4, 65, 80, true},
    {"more rows than a tile", 35, 9, 40, false},
    {"many steps", 2, 200, 32, true},
};

template <class S>
struct Problem {
  using W = std::conditional_t<std::is_same_v<S, double>, double, float>;
  Case c;
  Buffer<S> a, weight, h0, h, dh, da;
  Buffer<W> dweight;

  explicit Problem(const Case& c_)
      : c(c_),
        a(Buffer<S>::of(random_normal(c.B * c.T * c.d, 1, 31), 1)),
        weight(Buffer<S>::of(random_normal(c.d * c.d, 0.8 / std::sqrt(static_cast<double>(c.d)), 32), 1)),
        h0(Buffer<S>::of(random_normal(c.B * c.d, 0.5, 33), 1)),
        h(c.B * c.T * c.d, 1),
        dh(Buffer<S>::of(random_normal(c.B * c.T * c.d, 1, 34), 1)),
        da(c.B * c.T * c.d, 1),
        dweight(c.d * c.d, 1) {}

  AnyView states(const Buffer<S>& x) const { return view_of(x, {c.B, c.T, c.d}); }
  AnyView start() const { return c.h0 ? view_of(h0, {c.B, c.d}) : absent; }
  void forward(const Kernels& kernels, const Parallel& parallel = {}) {
    run_on(parallel, kernels.rnn, states(a), view_of(weight, {c.d, c.d}), start(), states(h));
  }
  void backward(const Kernels& kernels, bool accumulate = false, const Parallel& parallel = {}) {
    run_on(parallel, kernels.rnn_backward, states(dh), states(h), view_of(weight, {c.d, c.d}), start(), states(da),
           view_of(dweight, {c.d, c.d}), accumulate);
  }
};

struct Result {
  std::vector<double> h, da, dweight;
};

// `rounded` is what storing an element does to it.
template <class S>
Result recurrence(const Problem<S>& problem, const std::function<double(double)>& rounded) {
  const Case& c = problem.c;
  auto a = problem.a.values(), weight = problem.weight.values(), h0 = problem.h0.values(), dh = problem.dh.values();
  int64_t d = c.d;
  Result r{std::vector<double>(a.size()), std::vector<double>(a.size()), std::vector<double>(d * d)};
  for (int64_t b = 0; b < c.B; b++) {
    auto state = [&](int64_t t, int64_t i) { return t >= 0 ? r.h[(b * c.T + t) * d + i] : c.h0 ? h0[b * d + i] : 0.0; };
    for (int64_t t = 0; t < c.T; t++) {
      for (int64_t i = 0; i < d; i++) {
        double sum = a[(b * c.T + t) * d + i];
        for (int64_t j = 0; j < d; j++) sum += weight[i * d + j] * state(t - 1, j);
        r.h[(b * c.T + t) * d + i] = rounded(std::tanh(sum));
      }
    }
    for (int64_t t = c.T - 1; t >= 0; t--) {
      for (int64_t j = 0; j < d; j++) {
        double sum = dh[(b * c.T + t) * d + j];
        for (int64_t i = 0; t + 1 < c.T && i < d; i++) sum += weight[i * d + j] * r.da[(b * c.T + t + 1) * d + i];
        r.da[(b * c.T + t) * d + j] = rounded(sum * (1 - state(t, j) * state(t, j)));
      }
      for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < d; j++) r.dweight[i * d + j] += r.da[(b * c.T + t) * d + i] * state(t - 1, j);
    }
  }
  return r;
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (double x : values) result = std::max(result, std::abs(x));
  return result;
}

double exactly(double x) { return x; }
double as_bf16(double x) { return to_double(from_double<bf16>(x)); }

}  // namespace

TEST_CASE("rnn: the f64 plain loops are the recurrence") {
  for (const Case& c : kCases) {
    INFO(c.path);
    Problem<double> problem(c);
    problem.forward(oracle());
    problem.backward(oracle());
    Result expected = recurrence(problem, exactly);
    CHECK(max_error(problem.h.values(), expected.h) < 1e-13);
    CHECK(max_error(problem.da.values(), expected.da) < 1e-13);
    CHECK(max_error(problem.dweight.values(), expected.dweight) < 1e-12);
  }
}

TEST_CASE("rnn: gradients are those of finite differences, f64") {
  Problem<double> problem({"", 2, 5, 6, true});
  problem.forward(oracle());
  problem.backward(oracle());
  auto objective = [&] {
    Problem<double> probe = problem;
    probe.forward(oracle());
    double sum = 0;
    for (int64_t i = 0; i < probe.h.size(); i++) sum += probe.h[i] * probe.dh[i];
    return sum;
  };
  auto check = [&](Buffer<double>& x, const Buffer<double>& gradient) {
    for (int64_t i = 0; i < x.size(); i++) {
      double kept = x[i], step = 1e-5;
      x[i] = kept + step;
      double above = objective();
      x[i] = kept - step;
      double below = objective();
      x[i] = kept;
      CHECK(gradient[i] == doctest::Approx((above - below) / (2 * step)).epsilon(1e-6));
    }
  };
  check(problem.a, problem.da);
  check(problem.weight, problem.dweight);
}

// The recurrence contracts (spectral radius about 0.8), so a step's √d roundings of 2⁻²⁴ do not pile up.
TEST_CASE("rnn: f32 at every level") {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      INFO(c.path);
      Problem<float> problem(c);
      problem.forward(*backend.kernels);
      problem.backward(*backend.kernels);
      Result expected = recurrence(problem, exactly);
      CHECK(max_error(problem.h.values(), expected.h) < 3e-6);
      CHECK(max_error(problem.da.values(), expected.da) < 1e-6 * (1 + largest(expected.da)));
      CHECK(max_error(problem.dweight.values(), expected.dweight) < 3e-6 * (1 + largest(expected.dweight)));
      CHECK((problem.h.guards_intact() && problem.da.guards_intact() && problem.dweight.guards_intact()));
    }
  });
}

// Both round the state and da to bf16 as they store them; sums that differ in the last f32 bit may round apart.
TEST_CASE("rnn: bf16 at every level") {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      INFO(c.path);
      Problem<bf16> problem(c);
      problem.forward(*backend.kernels);
      problem.backward(*backend.kernels);
      Result exact = recurrence(problem, exactly), plain = recurrence(problem, as_bf16);
      auto check = [&](const std::vector<double>& actual, std::vector<double> Result::* of) {
        CHECK(max_error(actual, exact.*of) <= 2 * max_error(plain.*of, exact.*of) + largest(exact.*of) / 256);
      };
      check(problem.h.values(), &Result::h);
      check(problem.da.values(), &Result::da);
      check(problem.dweight.values(), &Result::dweight);
      CHECK((problem.h.guards_intact() && problem.da.guards_intact() && problem.dweight.guards_intact()));
    }
  });
}

TEST_CASE_TEMPLATE("rnn: in place, accumulating, on any threads: the same bits", S, float, bf16) {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      INFO(c.path);
      Problem<S> plain(c), other(c);
      plain.forward(*backend.kernels);
      plain.backward(*backend.kernels);
      run_on(ShuffledParallel(3, 5), backend.kernels->rnn, other.states(other.a), view_of(other.weight, {c.d, c.d}),
             other.start(), other.states(other.a));
      CHECK(other.a.same_bits(plain.h));
      Problem<S> added = plain;
      added.dweight = Buffer<float>::filled(c.d * c.d, 0.5);
      added.backward(*backend.kernels, true);
      std::vector<double> expected = plain.dweight.values();
      for (double& x : expected) x += 0.5;
      CHECK(max_error(added.dweight.values(), expected) < 1e-5 * (1 + largest(expected)));
      run_on(ShuffledParallel(4, 6), backend.kernels->rnn_backward, other.states(other.dh), other.states(other.a),
             view_of(other.weight, {c.d, c.d}), other.start(), other.states(other.dh),
             view_of(other.dweight, {c.d, c.d}), false);
      CHECK(other.dh.same_bits(plain.da));
      CHECK(other.dweight.same_bits(plain.dweight));
    }
  });
}

TEST_CASE_TEMPLATE("rnn: a sequence has the same bits alone and in a batch", S, float, bf16) {
  for_each_level([&](const Backend& backend) {
    Case c{"", 19, 12, 48, true};
    Problem<S> batch(c);
    batch.forward(*backend.kernels);
    Case single = c;
    single.B = 1;
    int64_t length = c.T * c.d;
    for (int64_t b : {0, 7, 18}) {
      Problem<S> alone(single);
      std::memcpy(alone.a.data(), batch.a.data() + b * length, length * sizeof(S));
      std::memcpy(alone.weight.data(), batch.weight.data(), c.d * c.d * sizeof(S));
      std::memcpy(alone.h0.data(), batch.h0.data() + b * c.d, c.d * sizeof(S));
      alone.forward(*backend.kernels);
      CHECK(std::memcmp(alone.h.data(), batch.h.data() + b * length, length * sizeof(S)) == 0);
    }
  });
}

// d = 1 and no recurrence: h is tanh itself. To 2 ulp over its whole range, 0 and signs exact, ±1 at the ends.
TEST_CASE("rnn: tanh to two units in the last place; NaN passes") {
  for_each_level([&](const Backend& backend) {
    std::vector<double> inputs = {0.0, -0.0, 1e-30, -1e-8, 0.5, 0.624999, 0.625, 0.625001, 8.9, 9.1, 50, -200};
    for (double x = -10; x < 10; x += 0.0037) inputs.push_back(x);
    for (double x = 1e-6; x < 1; x *= 1.01) inputs.push_back(x);
    int64_t count = static_cast<int64_t>(inputs.size());
    Buffer<float> a = Buffer<float>::of(inputs), weight = Buffer<float>::filled(1, 0), h(count);
    run(backend.kernels->rnn, view_of(a, {count, 1, 1}), view_of(weight, {1, 1}), absent, view_of(h, {count, 1, 1}));
    double worst = 0;
    for (int64_t i = 0; i < count; i++) {
      double exact = std::tanh(static_cast<double>(a[i]));
      double unit = std::ldexp(1.0, std::max(std::ilogb(exact == 0 ? 1e-38 : exact), -126) - 23);
      worst = std::max(worst, std::abs(h[i] - exact) / unit);
    }
    CHECK(worst <= 2.5);  // a GPU's tanhf is of approximate instructions, whose errors vary within their bounds
    a[5] = NAN;
    run(backend.kernels->rnn, view_of(a, {count, 1, 1}), view_of(weight, {1, 1}), absent, view_of(h, {count, 1, 1}));
    CHECK(std::isnan(h[5]));
    CHECK(!std::isnan(h[4]));
  });
}
