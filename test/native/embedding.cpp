// embedding and its backward: exact copies, and sums in the order of positions.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  std::string path;
  int64_t B, T, stored, vocabulary, d;
};

const Case kCases[] = {
    {"one of everything", 1, 1, 1, 1, 1},
    {"tail of 8 lanes, more tokens stored than used", 2, 5, 8, 3, 7},
    {"one vector of 8", 2, 3, 3, 11, 8},
    {"tail of 16 lanes", 3, 7, 9, 40, 15},
    {"one vector of 16", 1, 31, 32, 5, 16},
    {"a vector and a lane", 4, 4, 6, 300, 17},
    {"a block of columns", 2, 33, 34, 20, 64},
    {"a block of columns and one more, several tasks of rows", 2, 200, 201, 50, 65},
    {"a table of several blocks", 1, 16, 17, 700, 100},
};

template <class W, class Y>
struct Problem {
  using Sum = std::conditional_t<std::is_same_v<Y, double>, double, float>;
  Case c;
  Buffer<int32_t> tokens;
  Buffer<W> weight;
  Buffer<Y> y, dy;
  Buffer<Sum> dweight;
  Buffer<int32_t> status;

  explicit Problem(const Case& c_)
      : c(c_),
        tokens(Buffer<int32_t>::of(random_integers(c.B * c.stored, 0, c.vocabulary, 41))),
        weight(Buffer<W>::of(random_normal(c.vocabulary * c.d, 1, 42), 1)),
        y(c.B * c.T * c.d, 1),
        dy(Buffer<Y>::of(random_normal(c.B * c.T * c.d, 1, 43), 1)),
        dweight(c.vocabulary * c.d, 1),
        status(Buffer<int32_t>::filled(2, 0)) {}

  int32_t token(int64_t row) const { return tokens[row / c.T * c.stored + row % c.T]; }
  void forward(const Kernels& kernels) {
    run(kernels.embedding, view_of(tokens, {c.B, c.stored}), view_of(weight, {c.vocabulary, c.d}),
        view_of(y, {c.B, c.T, c.d}), view_of(status, {2}));
    CHECK(y.guards_intact());
  }
  void backward(const Kernels& kernels, bool accumulate, const Parallel& parallel = {}) {
    run_on(parallel, kernels.embedding_backward, view_of(dy, {c.B, c.T, c.d}), view_of(tokens, {c.B, c.stored}),
           view_of(dweight, {c.vocabulary, c.d}), accumulate);
    CHECK(dweight.guards_intact());
  }
  // The same additions in the same order, so the bits are the same at every level.
  Buffer<Sum> expected_dweight(Buffer<Sum> sums) const {
    for (int64_t row = 0; row < c.B * c.T; row++) {
      if (token(row) < 0 || token(row) >= c.vocabulary) continue;
      for (int64_t i = 0; i < c.d; i++) sums[token(row) * c.d + i] += static_cast<Sum>(to_double(dy[row * c.d + i]));
    }
    return sums;
  }
};

template <class W, class Y>
void check_case(const Kernels& kernels, const Case& c) {
  CAPTURE(c.path);
  Problem<W, Y> problem(c);
  problem.forward(kernels);
  for (int64_t row = 0; row < c.B * c.T; row++)
    for (int64_t i = 0; i < c.d; i++) {
      double wanted = to_double(from_double<Y>(to_double(problem.weight[problem.token(row) * c.d + i])));
      if (to_double(problem.y[row * c.d + i]) != wanted) FAIL_CHECK("y of row " << row);
    }
  CHECK(problem.status[0] == 0);
  using Sum = typename Problem<W, Y>::Sum;
  auto expected = problem.expected_dweight(Buffer<Sum>::filled(c.vocabulary * c.d, 0));
  problem.backward(kernels, false);
  CHECK(problem.dweight.same_bits(expected));
  expected = problem.expected_dweight(expected);
  problem.backward(kernels, true);
  CHECK(max_error(problem.dweight.values(), expected.values()) == 0);
}

}  // namespace

TEST_CASE("embedding: rows are copied, gradients summed in order, at every level and dtype") {
  for_each_level([](const Backend& backend) {
    for (const Case& c : kCases) {
      check_case<float, float>(*backend.kernels, c);
      check_case<float, bf16>(*backend.kernels, c);
      check_case<bf16, bf16>(*backend.kernels, c);
      check_case<bf16, float>(*backend.kernels, c);
      check_case<double, double>(*backend.oracle, c);
    }
  });
}

TEST_CASE("embedding: a token outside the vocabulary reads row 0, sets the flag and receives no gradient") {
  for_each_level([](const Backend& backend) {
    for (int32_t bad : {-1, 9, INT32_MIN, INT32_MAX}) {
      CAPTURE(bad);
      Problem<float, float> problem({"", 2, 3, 4, 9, 17});
      problem.tokens[5] = bad;  // row (1,1)
      problem.forward(*backend.kernels);
      CHECK(problem.status[0] == 1);
      CHECK(problem.status[1] == 0);
      CHECK(std::memcmp(problem.y.data() + 4 * 17, problem.weight.data(), 17 * sizeof(float)) == 0);
      problem.backward(*backend.kernels, false);
      CHECK(problem.dweight.same_bits(problem.expected_dweight(Buffer<float>::filled(9 * 17, 0))));
      run(backend.kernels->embedding, view_of(problem.tokens, {2, 4}), view_of(problem.weight, {9, 17}),
          view_of(problem.y, {2, 3, 17}), absent);
    }
  });
}

TEST_CASE("embedding: a bad token among those stored but not used is not looked at") {
  for_each_level([](const Backend& backend) {
    Problem<float, float> problem({"", 2, 3, 4, 9, 17});
    problem.tokens[3] = problem.tokens[7] = -5;
    problem.forward(*backend.kernels);
    CHECK(problem.status[0] == 0);
  });
}

TEST_CASE("embedding: the backward is the transpose of the forward") {
  Problem<double, double> problem({"", 2, 7, 8, 4, 5});
  problem.backward(oracle(), false);
  problem.forward(oracle());
  double forward = 0, backward = 0;
  for (int64_t i = 0; i < problem.y.size(); i++) forward += problem.y[i] * problem.dy[i];
  for (int64_t i = 0; i < problem.weight.size(); i++) backward += problem.weight[i] * problem.dweight[i];
  CHECK(forward == doctest::Approx(backward).epsilon(1e-13));
}

TEST_CASE("embedding: the order of tasks does not matter") {
  for_each_level([](const Backend& backend) {
    Problem<bf16, bf16> once({"", 2, 300, 301, 20, 200}), shuffled({"", 2, 300, 301, 20, 200});
    once.backward(*backend.kernels, false);
    shuffled.backward(*backend.kernels, false, ShuffledParallel(4));
    CHECK(shuffled.dweight.same_bits(once.dweight));
  });
}
