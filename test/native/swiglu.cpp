// swiglu and its backward, every level and dtype, against the f64 plain loop; that one against finite differences.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

// Tails of 8 and 16 lanes, and a second block of 16,384.
const int64_t kSizes[] = {1, 7, 8, 15, 16, 17, 33, 1000, 16384 + 5};

template <class T>
constexpr double kRoundoff = std::is_same_v<T, bf16>    ? 0x1p-8
                             : std::is_same_v<T, float> ? 0x1p-24
                                                        : 0x1p-53;

template <class T, class DY, class D>
struct Problem {
  int64_t n;
  Buffer<T> gate, up, y;
  Buffer<DY> dy;
  Buffer<D> dgate, dup;

  explicit Problem(int64_t n_)
      : n(n_),
        gate(Buffer<T>::of(random_normal(n, 4, 31), 1)),
        up(Buffer<T>::of(random_normal(n, 1, 32), 1)),
        y(n, 1),
        dy(Buffer<DY>::of(random_normal(n, 1, 33), 1)),
        dgate(n, 1),
        dup(n, 1) {}

  template <class E>
  AnyView row(const Buffer<E>& buffer) const {
    return view_of(buffer, {1, n});
  }
  void forward(const Kernels& kernels) { run(kernels.swiglu, row(gate), row(up), row(y)); }
  void backward(const Kernels& kernels) {
    run(kernels.swiglu_backward, row(dy), row(gate), row(up), row(dgate), row(dup));
  }
};

using Oracle = Problem<double, double, double>;

template <class P>
Oracle oracle_of(const P& problem) {
  Oracle exact(problem.n);
  exact.gate = Buffer<double>::of(problem.gate.values());
  exact.up = Buffer<double>::of(problem.up.values());
  exact.dy = Buffer<double>::of(problem.dy.values());
  return exact;
}

template <class T>
void check_close(const Buffer<T>& got, const Buffer<double>& exact, const std::vector<double>& scale) {
  CHECK(got.guards_intact());
  for (int64_t i = 0; i < got.size(); i++) {
    // A dozen float operations, then the store. Below the normal range exp flushes to 0.
    double bound = (0x1p-24 * 12 * scale[i]) + kRoundoff<T> * 1.01 * std::abs(exact[i]) + 1e-35;
    if (!(std::abs(to_double(got[i]) - exact[i]) <= bound)) FAIL_CHECK("element " << i << " is " << to_double(got[i]));
  }
}

template <class T, class DY, class D>
void check_size(const Backend& backend, int64_t n) {
  CAPTURE(n);
  Problem<T, DY, D> got(n);
  Oracle exact = oracle_of(got);
  std::vector<double> forward(n), gate(n), up(n);
  for (int64_t i = 0; i < n; i++) {
    double x = exact.gate[i], s = 1 / (1 + std::exp(-x));
    forward[i] = up[i] = std::abs(x * s);
    gate[i] = std::abs(exact.dy[i] * exact.up[i]) * s * (1 + std::abs(x));  // before 1 and x·(1 − s) cancel
    forward[i] *= std::abs(exact.up[i]);
    up[i] *= std::abs(exact.dy[i]);
  }
  got.forward(*backend.kernels);
  exact.forward(oracle());
  check_close(got.y, exact.y, forward);
  got.backward(*backend.kernels);
  exact.backward(oracle());
  check_close(got.dgate, exact.dgate, gate);
  check_close(got.dup, exact.dup, up);
}

}  // namespace

TEST_CASE("swiglu: every level and mixture of dtypes against the f64 plain loop") {
  for_each_level([](const Backend& backend) {
    for (int64_t n : kSizes) {
      check_size<float, float, float>(backend, n);
      check_size<bf16, bf16, bf16>(backend, n);
      check_size<bf16, float, bf16>(backend, n);
      check_size<bf16, float, float>(backend, n);
    }
  });
}

TEST_CASE("swiglu: the f64 plain loop is the formula, and its backward the derivative") {
  Oracle problem(50);
  problem.backward(oracle());
  constexpr double kStep = 1e-5;
  auto value = [](double gate, double up) { return gate / (1 + std::exp(-gate)) * up; };
  problem.forward(oracle());
  for (int64_t i = 0; i < problem.n; i++) {
    double g = problem.gate[i], u = problem.up[i], dy = problem.dy[i];
    CHECK(problem.y[i] == doctest::Approx(value(g, u)).epsilon(1e-14));
    CHECK(std::abs(dy * (value(g + kStep, u) - value(g - kStep, u)) / (2 * kStep) - problem.dgate[i]) < 1e-8);
    CHECK(std::abs(dy * (value(g, u + kStep) - value(g, u - kStep)) / (2 * kStep) - problem.dup[i]) < 1e-8);
  }
}

TEST_CASE("swiglu: few rows, of which threads take columns, against the f64 plain loop, whoever takes which") {
  struct Shape {
    int64_t rows, columns;
  };
  // Shares of equal width; a short last one that ends within a vector; of more columns than a share has at most; the
  // most rows and the most elements that are dealt out so, and one more of each.
  const Shape shapes[] = {{8, 704}, {3, 1001}, {2, 5003}, {16, 1024}, {17, 1024}, {16, 1025}};
  for_each_level([&](const Backend& backend) {
    for (const Shape& shape : shapes) {
      const auto [rows, columns] = shape;
      CAPTURE(rows);
      CAPTURE(columns);
      Problem<bf16, bf16, bf16> problem(rows * columns);
      Oracle exact = oracle_of(problem);
      exact.forward(oracle());
      std::vector<double> scale(problem.n);
      for (int64_t i = 0; i < problem.n; i++) scale[i] = std::abs(exact.y[i]);
      for (int threads : {1, 2, 3, 7}) {
        CAPTURE(threads);
        Buffer<bf16> y(problem.n);
        run_on(ShuffledParallel(threads), backend.kernels->swiglu, view_of(problem.gate, {rows, columns}),
               view_of(problem.up, {rows, columns}), view_of(y, {rows, columns}));
        check_close(y, exact.y, scale);
        if (threads == 1) problem.y = y;
        CHECK(y.same_bits(problem.y));
      }
    }
  });
}

TEST_CASE("swiglu: gates far from zero saturate") {
  for_each_level([](const Backend& backend) {
    auto gate = Buffer<float>::of({-200, -90, 90, 200, 0, 0});
    auto up = Buffer<float>::of({1, 1, 2, 3, 5, -5});
    Buffer<float> y(6), dgate(6), dup(6), dy = Buffer<float>::filled(6, 1);
    run(backend.kernels->swiglu, view_of(gate, {6}), view_of(up, {6}), view_of(y, {6}));
    CHECK(max_error(y.values(), {0, 0, 180, 600, 0, 0}) < 1e-30);
    run(backend.kernels->swiglu_backward, view_of(dy, {6}), view_of(gate, {6}), view_of(up, {6}), view_of(dgate, {6}),
        view_of(dup, {6}));
    CHECK(max_error(dgate.values(), {0, 0, 2, 3, 2.5, -2.5}) < 1e-30);
    CHECK(max_error(dup.values(), {0, 0, 90, 200, 0, 0}) < 1e-30);
  });
}

TEST_CASE("swiglu: gradients may overwrite dy, gate or up") {
  for_each_level([](const Backend& backend) {
    constexpr int64_t kCount = 1003;
    Problem<bf16, bf16, bf16> apart(kCount);
    apart.backward(*backend.kernels);
    auto check = [&](auto dgate_of, auto dup_of) {
      Problem<bf16, bf16, bf16> over(kCount);
      run(backend.kernels->swiglu_backward, over.row(over.dy), over.row(over.gate), over.row(over.up),
          over.row(dgate_of(over)), over.row(dup_of(over)));
      CHECK(dgate_of(over).same_bits(apart.dgate));
      CHECK(dup_of(over).same_bits(apart.dup));
    };
    auto dy = [](auto& p) -> auto& { return p.dy; };
    auto gate = [](auto& p) -> auto& { return p.gate; };
    auto up = [](auto& p) -> auto& { return p.up; };
    check(gate, up);
    check(up, gate);
    check(dy, up);
    check(gate, dy);
  });
}

TEST_CASE("swiglu: the order of tasks does not matter") {
  for_each_level([](const Backend& backend) {
    Problem<float, float, float> problem(3 * 16384 + 1);
    problem.backward(*backend.kernels);
    Buffer<float> dgate(problem.n), dup(problem.n);
    run_on(ShuffledParallel(3), backend.kernels->swiglu_backward, problem.row(problem.dy), problem.row(problem.gate),
           problem.row(problem.up), problem.row(dgate), problem.row(dup));
    CHECK(std::memcmp(dgate.data(), problem.dgate.data(), problem.n * sizeof(float)) == 0);
    CHECK(std::memcmp(dup.data(), problem.dup.data(), problem.n * sizeof(float)) == 0);
  });
}
