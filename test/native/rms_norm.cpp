// rms_norm and its backward, every level and dtype, against the f64 plain loop; that one against finite differences.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  std::string path;
  int64_t rows, d;
};

const Case kCases[] = {
    {"one element", 1, 1},
    {"tail of 8 lanes", 3, 7},
    {"one vector of 8", 2, 8},
    {"tail of 16 lanes", 2, 15},
    {"one vector of 16", 5, 16},
    {"a vector and a lane", 3, 17},
    {"odd width, two slabs", 17, 33},
    {"four chains and a tail", 4, 64 + 16 + 3},
    {"more rows than the most slabs hold at their least height", 64 * 16 + 5, 9},
    {"several tasks of rows, long rows", 40, 1000},
};

constexpr double kEps = 1e-5;

// Unit roundoff of a stored type.
template <class T>
constexpr double kRoundoff = std::is_same_v<T, bf16>    ? 0x1p-8
                             : std::is_same_v<T, float> ? 0x1p-24
                                                        : 0x1p-53;

// T is the compute dtype; the residual gradient dx and the weight may be f32 while it is bf16.
template <class T, class W, class DX>
struct Problem {
  using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
  Case c;
  Buffer<T> x, dy, y;
  Buffer<W> weight;
  Buffer<DX> dx;
  Buffer<Sum> dweight;

  explicit Problem(const Case& c_)
      : c(c_),
        x(Buffer<T>::of(random_normal(c.rows * c.d, 1.5, 21), 1)),
        dy(Buffer<T>::of(random_normal(c.rows * c.d, 1, 22), 1)),
        y(c.rows * c.d, 1),
        weight(Buffer<W>::of(random_normal(c.d, 1, 23), 1)),
        dx(c.rows * c.d, 1),
        dweight(c.d, 1) {}

  template <class E>
  AnyView rows(const Buffer<E>& buffer) const {
    return view_of(buffer, {c.rows, c.d});
  }
  void forward(const Kernels& kernels) {
    run(kernels.rms_norm, rows(x), view_of(weight, {c.d}), rows(y), kEps);
    CHECK(y.guards_intact());
  }
  void backward(const Kernels& kernels, bool accumulate_dx, bool accumulate_dweight, const Parallel& parallel = {}) {
    run_on(parallel, kernels.rms_norm_backward, rows(dy), rows(x), view_of(weight, {c.d}), rows(dx),
           view_of(dweight, {c.d}), kEps, accumulate_dx, accumulate_dweight);
    CHECK(dx.guards_intact());
    CHECK(dweight.guards_intact());
  }
};

using Oracle = Problem<double, double, double>;

// The same numbers in double.
template <class P>
Oracle oracle_of(const P& problem) {
  Oracle exact(problem.c);
  exact.x = Buffer<double>::of(problem.x.values());
  exact.dy = Buffer<double>::of(problem.dy.values());
  exact.weight = Buffer<double>::of(problem.weight.values());
  return exact;
}

// Size of the two terms of dx before they cancel, largest over all elements.
double largest_term(const Oracle& p) {
  double most = 0;
  for (int64_t row = 0; row < p.c.rows; row++) {
    const double *x = p.x.data() + row * p.c.d, *dy = p.dy.data() + row * p.c.d, *w = p.weight.data();
    double squares = 0, dot = 0, d = static_cast<double>(p.c.d);
    for (int64_t i = 0; i < p.c.d; i++) squares += x[i] * x[i] / d;
    double inverse = 1 / std::sqrt(squares + kEps);
    for (int64_t i = 0; i < p.c.d; i++) dot += std::abs(w[i] * dy[i] * x[i]) * inverse / d;
    for (int64_t i = 0; i < p.c.d; i++)
      most = std::max(most, (std::abs(w[i] * dy[i]) + std::abs(x[i]) * inverse * dot) * inverse);
  }
  return most;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (double value : values) most = std::max(most, std::abs(value));
  return most;
}

template <class T, class W, class DX>
void check_case(const Backend& backend, const Case& c) {
  CAPTURE(c.path);
  Problem<T, W, DX> got(c);
  Oracle exact = oracle_of(got);
  double d = static_cast<double>(c.d), rows = static_cast<double>(c.rows);
  // The sum of d squares errs by at most d roundings (in practice √d), the element by a few more.
  double calculated = 0x1p-24 * (8 + d / 2);

  got.forward(*backend.kernels);
  exact.forward(oracle());
  for (int64_t i = 0; i < c.rows * c.d; i++) {
    double bound = (calculated + kRoundoff<T> * 1.01) * std::abs(exact.y[i]);
    if (!(std::abs(to_double(got.y[i]) - exact.y[i]) <= bound)) FAIL_CHECK("y[" << i << "]");
  }

  got.backward(*backend.kernels, false, false);
  exact.backward(oracle(), false, false);
  double dx_bound = calculated * 4 * largest_term(exact) + kRoundoff<DX> * 1.01 * largest(exact.dx.values());
  CHECK(max_error(got.dx.values(), exact.dx.values()) <= dx_bound);
  // A column's sum runs over the rows of a slab, then over the slabs.
  double dweight_bound = (calculated + 0x1p-24 * (rows / 64 + 80)) * largest(exact.dweight.values()) * 4;
  CHECK(max_error(got.dweight.values(), exact.dweight.values()) <= dweight_bound);

  std::vector<double> twice_dx = got.dx.values(), twice_dweight = got.dweight.values();
  for (double& value : twice_dx) value *= 2;
  for (double& value : twice_dweight) value *= 2;
  got.backward(*backend.kernels, true, true);
  CHECK(max_error(got.dx.values(), twice_dx) <= dx_bound * 2);
  CHECK(max_error(got.dweight.values(), twice_dweight) <= dweight_bound);
}

}  // namespace

TEST_CASE("rms_norm: every level and mixture of dtypes against the f64 plain loop") {
  for_each_level([](const Backend& backend) {
    for (const Case& c : kCases) {
      check_case<float, float, float>(backend, c);
      check_case<bf16, bf16, bf16>(backend, c);
      check_case<bf16, float, float>(backend, c);
      check_case<bf16, bf16, float>(backend, c);
    }
  });
}

TEST_CASE("rms_norm: the f64 plain loop is the formula") {
  Oracle problem({"", 2, 5});
  problem.forward(oracle());
  for (int64_t row = 0; row < 2; row++) {
    double mean = 0;
    for (int64_t i = 0; i < 5; i++) mean += problem.x[row * 5 + i] * problem.x[row * 5 + i] / 5;
    for (int64_t i = 0; i < 5; i++)
      CHECK(problem.y[row * 5 + i] ==
            doctest::Approx(problem.x[row * 5 + i] / std::sqrt(mean + kEps) * problem.weight[i]).epsilon(1e-14));
  }
}

TEST_CASE("rms_norm: the f64 backward is the derivative of the forward") {
  Oracle problem({"", 19, 6});  // two slabs
  problem.backward(oracle(), false, false);
  constexpr double kStep = 1e-5;
  auto objective = [&] {
    problem.forward(oracle());
    double sum = 0;
    for (int64_t i = 0; i < problem.y.size(); i++) sum += problem.y[i] * problem.dy[i];
    return sum;
  };
  auto check = [&](Buffer<double>& input, const Buffer<double>& gradient) {
    for (int64_t i = 0; i < input.size(); i++) {
      double kept = input[i];
      input[i] = kept + kStep;
      double above = objective();
      input[i] = kept - kStep;
      double below = objective();
      input[i] = kept;
      CHECK(std::abs((above - below) / (2 * kStep) - gradient[i]) < 1e-7);
    }
  };
  check(problem.x, problem.dx);
  check(problem.weight, problem.dweight);
}

TEST_CASE("rms_norm: a row's bits depend on nothing but the row") {
  for_each_level([](const Backend& backend) {
    Problem<bf16, float, float> many({"", 70, 83}), one({"", 1, 83});
    many.forward(*backend.kernels);
    many.backward(*backend.kernels, false, false);
    for (int64_t row : {0, 16, 69}) {
      std::memcpy(one.x.data(), many.x.data() + row * 83, 83 * sizeof(bf16));
      std::memcpy(one.dy.data(), many.dy.data() + row * 83, 83 * sizeof(bf16));
      one.forward(*backend.kernels);
      one.backward(*backend.kernels, false, false);
      CHECK(std::memcmp(one.y.data(), many.y.data() + row * 83, 83 * sizeof(bf16)) == 0);
      CHECK(std::memcmp(one.dx.data(), many.dx.data() + row * 83, 83 * sizeof(float)) == 0);
    }
  });
}

TEST_CASE("rms_norm: the order of tasks does not matter") {
  for_each_level([](const Backend& backend) {
    Problem<float, float, float> once({"", 1500, 33}), shuffled({"", 1500, 33});
    once.backward(*backend.kernels, false, false);
    shuffled.backward(*backend.kernels, false, false, ShuffledParallel(4));
    CHECK(shuffled.dx.same_bits(once.dx));
    CHECK(shuffled.dweight.same_bits(once.dweight));
  });
}
