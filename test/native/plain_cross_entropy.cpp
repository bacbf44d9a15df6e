// cross_entropy and its backward, every level and dtype, against softmax in long double; that against finite
// differences.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Shape {
  int64_t batch, tokens, stored, vocabulary, shift;
  bool limited;
  int64_t rows() const { return batch * tokens; }
};

// One class; tails of 8 and 16 lanes and of a GPU's quads; two blocks of sums; several tasks of rows.
const Shape kShapes[] = {{1, 3, 3, 1, 0, false},   {2, 5, 7, 7, 2, true},          {1, 4, 5, 33, 1, false},
                         {3, 2, 4, 1031, 1, true}, {1, 2, 2, 16384 + 5, 0, false}, {2, 40, 41, 1000, 1, true}};

template <class T>
struct Problem {
  using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
  Shape shape;
  Buffer<T> logits, dlogits;
  Buffer<int32_t> targets, limit, argmax;
  Buffer<Sum> loss, lse, upstream;

  explicit Problem(const Shape& s, double std = 3)
      : shape(s),
        logits(Buffer<T>::of(random_normal(s.rows() * s.vocabulary, std, 11), 1)),
        dlogits(s.rows() * s.vocabulary, 1),
        targets(Buffer<int32_t>::of(random_integers(s.batch * s.stored, -1, s.vocabulary + 1, 12))),
        limit(Buffer<int32_t>::of(random_integers(s.rows(), 0, s.stored, 13))),
        argmax(s.rows()),
        loss(s.rows()),
        lse(s.rows()),
        upstream(Buffer<Sum>::of(random_normal(s.rows(), 1, 14))) {}

  AnyView logits_view() const { return view_of(logits, {shape.batch, shape.tokens, shape.vocabulary}); }
  AnyView dlogits_view() const { return view_of(dlogits, {shape.batch, shape.tokens, shape.vocabulary}); }
  AnyView targets_view() const { return view_of(targets, {shape.batch, shape.stored}); }
  AnyView limit_view() const { return shape.limited ? view_of(limit, {shape.batch, shape.tokens}) : absent; }
  AnyView row_view(const Buffer<Sum>& column) const { return view_of(column, {shape.rows()}); }

  void run_all(const Kernels& kernels, const Parallel& parallel = {}) {
    run_on(parallel, kernels.cross_entropy, logits_view(), targets_view(), limit_view(), shape.shift, row_view(loss),
           row_view(lse), view_of(argmax, {shape.rows()}));
    run_on(parallel, kernels.cross_entropy_backward, logits_view(), targets_view(), limit_view(), shape.shift,
           row_view(lse), row_view(upstream), dlogits_view());
    for (bool intact : {dlogits.guards_intact(), argmax.guards_intact(), loss.guards_intact(), lse.guards_intact()})
      CHECK(intact);
  }

  int64_t target(int64_t r) const {
    int64_t position = r % shape.tokens + shape.shift;
    if (position >= shape.stored || (shape.limited && position > limit[r])) return -1;
    int64_t y = targets[r / shape.tokens * shape.stored + position];
    return y < shape.vocabulary ? y : -1;
  }
};

// Row r of the problem, the definition.
template <class T>
struct Reference {
  std::vector<long double> probability;
  long double lse;
  int64_t argmax = 0;

  Reference(const Problem<T>& problem, int64_t r) {
    int64_t V = problem.shape.vocabulary;
    std::vector<long double> z;
    for (int64_t v = 0; v < V; v++) z.push_back(to_double(problem.logits[r * V + v]));
    for (int64_t v = 1; v < V; v++)
      if (z[v] > z[argmax]) argmax = v;
    long double sum = 0;
    for (long double x : z) sum += std::exp(x - z[argmax]);
    lse = z[argmax] + std::log(sum);
    for (long double x : z) probability.push_back(std::exp(x - lse));
  }
};

// Relative to the largest value that the result is made of; `stored`: half a unit in the last place of the gradient.
template <class T>
void check(const Backend& backend, const Kernels& kernels, const Shape& shape, double precision, double stored) {
  CAPTURE(backend.level);
  CAPTURE(shape.vocabulary);
  Problem<T> problem(shape);
  problem.run_all(kernels);
  int64_t V = shape.vocabulary, ignored = 0;
  for (int64_t r = 0; r < shape.rows(); r++) {
    Reference<T> exact(problem, r);
    int64_t y = problem.target(r);
    CAPTURE(r);
    CHECK(problem.argmax[r] == exact.argmax);
    double scale = 1 + std::abs(static_cast<double>(exact.lse));
    CHECK(std::abs(problem.lse[r] - static_cast<double>(exact.lse)) <= precision * scale);
    long double loss = y < 0 ? 0 : exact.lse - to_double(problem.logits[r * V + y]);
    CHECK(std::abs(problem.loss[r] - static_cast<double>(loss)) <= precision * (scale + std::abs(loss)));
    ignored += y < 0;
    for (int64_t v = 0; v < V; v++) {
      double p = static_cast<double>(exact.probability[v]), up = to_double(problem.upstream[r]);
      double wanted = y < 0 ? 0 : up * (p - (v == y)), got = to_double(problem.dlogits[r * V + v]);
      // The probability has the error of lse, as a share of itself.
      double bound =
          std::abs(up) * (2 * precision * scale * p + precision * (v == y)) + stored * std::abs(wanted) + 1e-35;
      if (y < 0) bound = 0;
      if (!(std::abs(got - wanted) <= bound)) FAIL_CHECK("class " << v << " has " << got << ", not " << wanted);
    }
  }
  if (shape.limited) CHECK(ignored > 0);
}

}  // namespace

TEST_CASE("cross_entropy of stored logits: every level and dtype against softmax in long double") {
  for_each_level([](const Backend& backend) {
    for (const Shape& shape : kShapes) {
      check<float>(backend, *backend.kernels, shape, 0x1p-22, 0x1p-24);
      check<bf16>(backend, *backend.kernels, shape, 0x1p-22, 0x1p-8);
    }
  });
  for (const Shape& shape : kShapes) check<double>(*cpu::backend("generic"), oracle(), shape, 0x1p-50, 0x1p-53);
}

TEST_CASE("cross_entropy of stored logits: the f64 backward is the derivative") {
  Problem<double> problem({2, 3, 4, 9, 1, true});
  problem.run_all(oracle());
  Buffer<double> gradient = problem.dlogits;
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < gradient.size(); i++) {
    auto total = [&](double step) {
      Problem<double> moved = problem;
      moved.logits[i] += step;
      moved.run_all(oracle());
      double sum = 0;
      for (int64_t r = 0; r < moved.shape.rows(); r++) sum += moved.upstream[r] * moved.loss[r];
      return sum;
    };
    CHECK(std::abs((total(kStep) - total(-kStep)) / (2 * kStep) - gradient[i]) < 1e-9);
  }
}

TEST_CASE("cross_entropy of stored logits: large offsets, ties, certainty and NaN") {
  for_each_level([](const Backend& backend) {
    auto logits = Buffer<float>::of({1e4, 1e4, 0, -1e4, 0, 0, 200, 0, 0, NAN, 0, 0});
    auto targets = Buffer<int32_t>::of({1, 2, 0});
    auto upstream = Buffer<float>::of({1, 1, 1});
    Buffer<float> loss(3), lse(3), dlogits(12);
    Buffer<int32_t> argmax(3);
    AnyView z = view_of(logits, {3, 4}), y = view_of(targets, {1, 3});
    run(backend.kernels->cross_entropy, z, y, absent, 0, view_of(loss, {3}), view_of(lse, {3}), view_of(argmax, {3}));
    run(backend.kernels->cross_entropy_backward, z, y, absent, 0, view_of(lse, {3}), view_of(upstream, {3}),
        view_of(dlogits, {3, 4}));
    CHECK(argmax[0] == 0);
    CHECK(loss[0] == doctest::Approx(std::log(2.0)).epsilon(1e-6));
    CHECK(loss[1] == 0);
    CHECK(dlogits[6] == 0);
    CHECK(std::isnan(loss[2]));
    // argmax may be left out.
    Buffer<float> again(3);
    run(backend.kernels->cross_entropy, z, y, absent, 0, view_of(again, {3}), view_of(lse, {3}), absent);
    CHECK(again.same_bits(loss));
  });
}

TEST_CASE("cross_entropy of stored logits: the order of tasks does not matter") {
  for_each_level([](const Backend& backend) {
    Problem<float> once({2, 60, 61, 1000, 1, true});
    Problem<float> shuffled = once;
    once.run_all(*backend.kernels);
    shuffled.run_all(*backend.kernels, ShuffledParallel(3));
    CHECK(once.loss.same_bits(shuffled.loss));
    CHECK(once.dlogits.same_bits(shuffled.dlogits));
  });
}
