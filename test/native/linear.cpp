// linear, its two gradients and weight packing: every level against the f64 plain loops, with the error bound of one
// fp32 chain and one rounding to the result's dtype.
#include <atomic>
#include <memory>

#include "core/thread_pool.h"
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Shape {
  int64_t m, n, k;
};

// Edges of tiles and panels, blocks of k and of rows, one row, one column, one k; the last four have strides of whole
// 16 bytes throughout, as tensor cores want them.
const std::vector<Shape> kShapes = {{1, 1, 1},     {1, 64, 33},    {2, 17, 31},   {15, 16, 32},  {16, 15, 17},
                                    {17, 33, 64},  {31, 65, 65},   {33, 300, 40}, {64, 31, 255}, {65, 48, 257},
                                    {130, 70, 16}, {16, 136, 200}, {1, 8, 8},     {67, 72, 104}, {129, 264, 136}};

double half_ulp(DType dtype) { return dtype == DType::bf16 ? 1.0 / 256 : 1.0 / (1 << 24); }

// |actual − exact| ≤ 2⁻²⁴·(terms + 4)·size + half an ulp of the result; size is the same sum over absolute values.
void check_close(const std::vector<double>& actual, const std::vector<double>& exact, const std::vector<double>& size,
                 int64_t terms, DType dtype) {
  REQUIRE(actual.size() == exact.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    double bound = size[i] * static_cast<double>(terms + 4) / (1 << 24);
    bound += (std::abs(exact[i]) + bound) * half_ulp(dtype) * 1.001 + 1e-30;
    double error = std::abs(actual[i] - exact[i]) / bound;
    worst = error <= worst ? worst : error;  // NaN becomes the worst
  }
  CHECK(worst <= 1.0);
}

std::vector<double> absolute(std::vector<double> values) {
  for (double& value : values) value = std::abs(value);
  return values;
}

// One product in dtype T with its result in dtype Y, on one shape and level. Operands start `shift` elements off their
// alignment: 0 and 1 take different kernels on a GPU.
template <class T, class Y>
struct Case {
  const Backend& backend;
  Shape shape;
  int64_t shift = 0;
  int64_t m = shape.m, n = shape.n, k = shape.k;
  Buffer<T> x = Buffer<T>::of(random_normal(m * k, 1, 1), shift),
            weight = Buffer<T>::of(random_normal(n * k, 1, 2), shift),
            dy = Buffer<T>::of(random_normal(m * n, 1, 3), shift);
  Buffer<T> bias = Buffer<T>::of(random_normal(n, 3, 4)), residual = Buffer<T>::of(random_normal(m * n, 3, 5));

  template <class E>
  static Buffer<double> exact(const Buffer<E>& buffer, bool sizes) {
    return Buffer<double>::of(sizes ? absolute(buffer.values()) : buffer.values());
  }

  Buffer<uint8_t> packed_weight() const {
    Buffer<uint8_t> packed(backend.packed_weight_bytes(DTypeOf<T>::value, n, k));
    AnyView view = view_of(packed, {n, k}, Layout::packed);
    view.dtype = DTypeOf<T>::value;
    run(backend.kernels->pack_weight, view_of(weight, {n, k}), view);
    CHECK(packed.guards_intact());
    return packed;
  }

  void linear(bool with_bias, bool with_residual) const {
    CAPTURE(with_bias);
    CAPTURE(with_residual);
    auto expected = [&](bool sizes) {
      Buffer<double> y(m * n), xs = exact(x, sizes), ws = exact(weight, sizes), bs = exact(bias, sizes),
                               rs = exact(residual, sizes);
      run(oracle().linear, view_of(xs, {m, k}), view_of(ws, {n, k}), with_bias ? view_of(bs, {n}) : absent,
          with_residual ? view_of(rs, {m, n}) : absent, view_of(y, {m, n}));
      return y.values();
    };
    Buffer<Y> y(m * n, shift);
    AnyView b = with_bias ? view_of(bias, {n}) : absent, r = with_residual ? view_of(residual, {m, n}) : absent;
    run(backend.kernels->linear, view_of(x, {1, m, k}), view_of(weight, {n, k}), b, r, view_of(y, {1, m, n}));
    CHECK(y.guards_intact());
    check_close(y.values(), expected(false), expected(true), k + 2, DTypeOf<Y>::value);

    Buffer<uint8_t> packed = packed_weight();
    AnyView packed_view = view_of(packed, {n, k}, Layout::packed);
    packed_view.dtype = DTypeOf<T>::value;
    Buffer<Y> same(m * n);
    run_on(ShuffledParallel(3), backend.kernels->linear, view_of(x, {m, k}), packed_view, b, r, view_of(same, {m, n}));
    CHECK_MESSAGE(same.same_bits(y), "packed ahead, and tasks in another order");
  }

  void linear_onto_residual() const {
    if constexpr (std::is_same_v<T, Y>) {
      Buffer<Y> apart(m * n), onto = residual;
      run(backend.kernels->linear, view_of(x, {m, k}), view_of(weight, {n, k}), absent, view_of(residual, {m, n}),
          view_of(apart, {m, n}));
      run(backend.kernels->linear, view_of(x, {m, k}), view_of(weight, {n, k}), absent, view_of(onto, {m, n}),
          view_of(onto, {m, n}));
      CHECK(onto.same_bits(apart));
    }
  }

  void backward_input(bool accumulate) const {
    CAPTURE(accumulate);
    std::vector<double> before = random_normal(m * k, 2, 6);
    Buffer<Y> dx = accumulate ? Buffer<Y>::of(before, shift) : Buffer<Y>(m * k, shift), same = dx;
    auto expected = [&](bool sizes) {
      Buffer<double> result = exact(dx, sizes), gradient = exact(dy, sizes), w = exact(weight, sizes);
      run(oracle().linear_backward_input, view_of(gradient, {m, n}), view_of(w, {n, k}), view_of(result, {m, k}),
          accumulate);
      return result.values();
    };
    std::vector<double> values = expected(false), sizes = expected(true);
    run(backend.kernels->linear_backward_input, view_of(dy, {m, n}), view_of(weight, {n, k}), view_of(dx, {m, k}),
        accumulate);
    CHECK(dx.guards_intact());
    check_close(dx.values(), values, sizes, n + 1, DTypeOf<Y>::value);
    run_on(ShuffledParallel(2), backend.kernels->linear_backward_input, view_of(dy, {m, n}), view_of(weight, {n, k}),
           view_of(same, {m, k}), accumulate);
    CHECK(same.same_bits(dx));
  }

  void backward_weight(bool accumulate, bool with_bias) const {
    CAPTURE(accumulate);
    CAPTURE(with_bias);
    std::vector<double> before = random_normal(n * k, 2, 7);
    Buffer<float> dweight = accumulate ? Buffer<float>::of(before, shift) : Buffer<float>(n * k, shift);
    Buffer<float> dbias = accumulate ? Buffer<float>::filled(n, 3) : Buffer<float>(n);
    Buffer<float> same_weight = dweight, same_bias = dbias;
    auto expected = [&](bool sizes, bool of_bias) {
      Buffer<double> dw = exact(dweight, sizes), db = exact(dbias, sizes), gradient = exact(dy, sizes),
                     xs = exact(x, sizes);
      run(oracle().linear_backward_weight, view_of(gradient, {m, n}), view_of(xs, {m, k}), view_of(dw, {n, k}),
          view_of(db, {n}), accumulate);
      return of_bias ? db.values() : dw.values();
    };
    std::vector<double> dw = expected(false, false), dw_sizes = expected(true, false);
    std::vector<double> db = expected(false, true), db_sizes = expected(true, true);
    AnyView bias_view = with_bias ? view_of(dbias, {n}) : absent;
    run(backend.kernels->linear_backward_weight, view_of(dy, {m, n}), view_of(x, {m, k}), view_of(dweight, {n, k}),
        bias_view, accumulate);
    CHECK(dweight.guards_intact());
    CHECK(dbias.guards_intact());
    check_close(dweight.values(), dw, dw_sizes, m + 1, DType::f32);
    if (with_bias) check_close(dbias.values(), db, db_sizes, m + 1, DType::f32);
    run_on(ShuffledParallel(3), backend.kernels->linear_backward_weight, view_of(dy, {m, n}), view_of(x, {m, k}),
           view_of(same_weight, {n, k}), with_bias ? view_of(same_bias, {n}) : absent, accumulate);
    CHECK(same_weight.same_bits(dweight));
    CHECK(same_bias.same_bits(dbias));
  }
};

// body(Case) for every level and shape, in f32, in bf16, and in bf16 with a result in f32.
template <class Body>
void for_each_case(Body body) {
  for_each_level([&](const Backend& backend) {
    for (const Shape& shape : kShapes) {
      CAPTURE(shape.m);
      CAPTURE(shape.n);
      CAPTURE(shape.k);
      for (int64_t shift : {0, 1}) {
        CAPTURE(shift);
        body(Case<float, float>{backend, shape, shift});
        body(Case<bf16, bf16>{backend, shape, shift});
        body(Case<bf16, float>{backend, shape, shift});
      }
    }
  });
}

}  // namespace

TEST_CASE("linear: x·weightᵀ + bias + residual, from a weight as it is and from a packed one") {
  for_each_case([](const auto& test) {
    for (bool bias : {false, true})
      for (bool residual : {false, true}) test.linear(bias, residual);
    test.linear_onto_residual();
  });
}

TEST_CASE("linear: bias and residual in f32 beside a bf16 product") {
  for_each_level([](const Backend& backend) {
    Buffer<bf16> x = Buffer<bf16>::filled(2 * 3, 1), weight = Buffer<bf16>::filled(20 * 3, 2), y(2 * 20);
    Buffer<float> bias = Buffer<float>::filled(20, 0.5), residual = Buffer<float>::filled(2 * 20, 10);
    run(backend.kernels->linear, view_of(x, {2, 3}), view_of(weight, {20, 3}), view_of(bias, {20}),
        view_of(residual, {2, 20}), view_of(y, {2, 20}));
    CHECK(y.same_bits(Buffer<bf16>::filled(2 * 20, 16.5)));
  });
}

TEST_CASE("linear: a row's bits are the same in every batch") {
  constexpr int64_t kRows = 150, kN = 83, kK = 515;
  auto check = [&](const Backend& backend, auto element) {
    using T = decltype(element);
    Buffer<T> x = Buffer<T>::of(random_normal(kRows * kK, 1, 1)), weight = Buffer<T>::of(random_normal(kN * kK, 1, 2));
    Buffer<T> bias = Buffer<T>::of(random_normal(kN, 1, 3)), all(kRows * kN);
    run(backend.kernels->linear, view_of(x, {kRows, kK}), view_of(weight, {kN, kK}), view_of(bias, {kN}), absent,
        view_of(all, {kRows, kN}));
    for (int64_t m : {1, 2, 13, 63, 64, 65, 149}) {
      CAPTURE(m);
      Buffer<T> some(m * kN);
      AnyView rows = view_of(x, {kRows, kK});
      rows.data = x.data() + (kRows - m) * kK;
      rows.shape[0] = m;
      run(backend.kernels->linear, rows, view_of(weight, {kN, kK}), view_of(bias, {kN}), absent,
          view_of(some, {m, kN}));
      CHECK(std::memcmp(some.data(), all.data() + (kRows - m) * kN, m * kN * sizeof(T)) == 0);
    }
  };
  for_each_level([&](const Backend& backend) {
    check(backend, float());
    check(backend, bf16());
  });
}

TEST_CASE("linear_backward_input: dx (+)= dy·weight") {
  for_each_case([](const auto& test) {
    for (bool accumulate : {false, true}) test.backward_input(accumulate);
  });
}

TEST_CASE("linear_backward_weight: dweight (+)= dyᵀ·x, dbias (+)= column sums") {
  for_each_case([](const auto& test) {
    for (bool accumulate : {false, true})
      for (bool bias : {false, true}) test.backward_weight(accumulate, bias);
  });
}

TEST_CASE("linear_backward_weight: more rows than a slab holds") {
  for_each_level([](const Backend& backend) {
    Case<float, float>{backend, {2100, 18, 20}, 1}.backward_weight(true, true);
    Case<bf16, float>{backend, {2100, 18, 20}, 1}.backward_weight(false, true);
  });
}

TEST_CASE("linear: several tasks across and down") {
  for_each_level([](const Backend& backend) {
    Case<bf16, bf16> test{backend, {200, 530, 48}};
    test.linear(true, true);
    test.backward_input(true);
    test.backward_weight(false, true);
  });
}

// 128×256 tiles on 132 processors, 128×128 on 108.
TEST_CASE("linear: results large enough for a GPU's largest tiles") {
  for_each_level([](const Backend& backend) {
    Case<bf16, bf16>{backend, {1411, 1400, 40}}.linear(true, true);
    Case<bf16, bf16>{backend, {1411, 40, 1400}}.backward_input(true);
    Case<bf16, float>{backend, {43, 1400, 1416}}.backward_weight(true, true);
  });
}

TEST_CASE("linear: a row's bits are the same from 1 row to as many as take the largest tiles") {
  constexpr int64_t kRows = 1411, kN = 1400, kK = 72;
  for_each_level([&](const Backend& backend) {
    Buffer<bf16> x = Buffer<bf16>::of(random_normal(kRows * kK, 1, 1));
    Buffer<bf16> weight = Buffer<bf16>::of(random_normal(kN * kK, 1, 2)), all(kRows * kN);
    run(backend.kernels->linear, view_of(x, {kRows, kK}), view_of(weight, {kN, kK}), absent, absent,
        view_of(all, {kRows, kN}));
    for (int64_t m : {1, 16, 17, 64, 65, 130}) {
      CAPTURE(m);
      Buffer<bf16> some(m * kN);
      run(backend.kernels->linear, view_of(x, {m, kK}), view_of(weight, {kN, kK}), absent, absent,
          view_of(some, {m, kN}));
      CHECK(std::memcmp(some.data(), all.data(), m * kN * sizeof(bf16)) == 0);
    }
  });
}

TEST_CASE("linear: the same bits on 1, 2 and 3 threads of the pool") {
  constexpr int64_t kM = 333, kN = 150, kK = 96;
  for_each_level([](const Backend& backend) {
    Buffer<bf16> x = Buffer<bf16>::of(random_normal(kM * kK, 1, 1));
    Buffer<bf16> weight = Buffer<bf16>::of(random_normal(kN * kK, 1, 2));
    Buffer<bf16> dy = Buffer<bf16>::of(random_normal(kM * kN, 1, 3));
    std::vector<Buffer<float>> results[3];
    for (int threads = 1; threads <= 3; threads++) {
      std::atomic<bool> cancelled{false};
      PoolParallel parallel(std::make_shared<ThreadPool>(threads), cancelled);
      Buffer<float> y(kM * kN), dx(kM * kK), dweight(kN * kK), dbias(kN);
      run_on(parallel, backend.kernels->linear, view_of(x, {kM, kK}), view_of(weight, {kN, kK}), absent, absent,
             view_of(y, {kM, kN}));
      run_on(parallel, backend.kernels->linear_backward_input, view_of(dy, {kM, kN}), view_of(weight, {kN, kK}),
             view_of(dx, {kM, kK}), false);
      run_on(parallel, backend.kernels->linear_backward_weight, view_of(dy, {kM, kN}), view_of(x, {kM, kK}),
             view_of(dweight, {kN, kK}), view_of(dbias, {kN}), false);
      results[threads - 1] = {y, dx, dweight, dbias};
    }
    for (int other : {1, 2})
      for (int i = 0; i < 4; i++) CHECK(results[other][i].same_bits(results[0][i]));
  });
}
