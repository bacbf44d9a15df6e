// fill, cast, add, scale, multiply, accumulate, random_normal, gather_rows: every level and dtype.
#include "core/normal.h"
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

// Tails of 8 and 16 lanes, and a second block of 16,384.
const int64_t kSizes[] = {1, 7, 8, 15, 16, 17, 33, 1000, 16384 + 5};

template <class T>
using Arithmetic = std::conditional_t<std::is_same_v<T, double>, double, float>;

// What storing a calculated number as T leaves: rounded to the arithmetic's precision, then to T's.
template <class T>
T stored(double exact) {
  return from_double<T>(static_cast<Arithmetic<T>>(exact));
}

template <class T>
Buffer<T> numbers(int64_t n, uint64_t seed) {
  return Buffer<T>::of(random_normal(n, 3, seed), 1);
}

// Equal bits everywhere and nothing else written.
template <class T>
void check_exact(const Buffer<T>& got, const Buffer<T>& wanted) {
  CHECK(max_error(got.values(), wanted.values()) == 0);
  CHECK(got.same_bits(wanted));
  CHECK(got.guards_intact());
}

// body.template operator()<A, B, Y>() for every mixture of f32 and bf16, and for f64.
template <class Body>
void for_each_mixture(Body body) {
  body.template operator()<float, float, float>();
  body.template operator()<float, bf16, float>();
  body.template operator()<bf16, float, float>();
  body.template operator()<bf16, bf16, float>();
  body.template operator()<float, float, bf16>();
  body.template operator()<float, bf16, bf16>();
  body.template operator()<bf16, float, bf16>();
  body.template operator()<bf16, bf16, bf16>();
  body.template operator()<double, double, double>();
}

template <class T>
const Kernels& kernels_for(const Backend& backend) {
  return std::is_same_v<T, double> ? *backend.oracle : *backend.kernels;
}

template <class X, class Y>
void check_cast(const Backend& backend, int64_t n) {
  auto x = numbers<X>(n, 11);
  Buffer<Y> y(n, 1), wanted(n, 1);
  for (int64_t i = 0; i < n; i++) wanted[i] = from_double<Y>(to_double(x[i]));
  run(backend.kernels->cast, view_of(x, {n}), view_of(y, {n}));
  check_exact(y, wanted);
}

template <class T>
void check_fill(const Backend& backend, int64_t n, double value) {
  Buffer<T> y(n, 1), wanted(n, 1);
  for (int64_t i = 0; i < n; i++) wanted[i] = from_double<T>(value);
  run(backend.kernels->fill, view_of(y, {n}), value);
  check_exact(y, wanted);
}

template <class T>
void check_gather(const Backend& backend, int64_t columns) {
  constexpr int64_t kRows = 5;
  auto x = Buffer<T>::of(random_integers(kRows * columns, 1, 100, 12));
  auto index = Buffer<int32_t>::of({4, 0, -1, 4, 5, 2, INT32_MIN, INT32_MAX});
  Buffer<T> y(index.size() * columns, 1), wanted(index.size() * columns, 1);
  for (int64_t m = 0; m < index.size(); m++)
    for (int64_t i = 0; i < columns; i++) {
      bool inside = index[m] >= 0 && index[m] < kRows;
      wanted[m * columns + i] = inside ? x[index[m] * columns + i] : from_double<T>(0);
    }
  run(backend.kernels->gather_rows, view_of(x, {kRows, columns}), view_of(index, {index.size()}),
      view_of(y, {index.size(), columns}));
  check_exact(y, wanted);
}

template <class T>
void check_random(const Backend& backend, int64_t n) {
  Buffer<T> y(n, 1), wanted(n, 1);
  constexpr int64_t kSeed = 0x123456789abcdef, kStream = 77;
  for (int64_t i = 0; i < n; i++) wanted[i] = from_double<T>(0.5 + 2 * normal(philox(kSeed, kStream, i)));
  run(kernels_for<T>(backend).random_normal, view_of(y, {n}), 0.5, 2.0, kSeed, kStream);
  check_exact(y, wanted);
}

}  // namespace

TEST_CASE("elementwise: fill writes any dtype") {
  for_each_level([](const Backend& backend) {
    for (int64_t n : kSizes) {
      check_fill<float>(backend, n, 0.1);
      check_fill<bf16>(backend, n, 0.1);
      check_fill<double>(backend, n, 0.1);
      check_fill<int32_t>(backend, n, -3);
      check_fill<uint8_t>(backend, n, 200);
    }
  });
}

TEST_CASE("elementwise: cast between any two float dtypes, and copies") {
  for_each_level([](const Backend& backend) {
    for (int64_t n : kSizes) {
      CAPTURE(n);
      check_cast<float, float>(backend, n);
      check_cast<float, bf16>(backend, n);
      check_cast<float, double>(backend, n);
      check_cast<bf16, float>(backend, n);
      check_cast<bf16, bf16>(backend, n);
      check_cast<bf16, double>(backend, n);
      check_cast<double, float>(backend, n);
      check_cast<double, bf16>(backend, n);
      check_cast<double, double>(backend, n);
      check_cast<int32_t, int32_t>(backend, n);
      check_cast<uint8_t, uint8_t>(backend, n);
    }
  });
}

TEST_CASE("elementwise: cast keeps infinities and NaN, rounds ties to even") {
  for_each_level([](const Backend& backend) {
    auto x = Buffer<float>::of({INFINITY, -INFINITY, NAN, 3.4e38, 1.00390625, 1.01171875, -0.0, 1e-40});
    Buffer<bf16> y(8);
    run(backend.kernels->cast, view_of(x, {8}), view_of(y, {8}));
    const uint16_t wanted[] = {0x7f80, 0xff80, 0x7fc0, 0x7f80, 0x3f80, 0x3f82, 0x8000, 0x0001};
    for (int i = 0; i < 8; i++) CHECK(y[i].bits == wanted[i]);
  });
}

TEST_CASE("elementwise: add, also in place") {
  for_each_level([](const Backend& backend) {
    for_each_mixture([&]<class A, class B, class Y>() {
      for (int64_t n : kSizes) {
        CAPTURE(n);
        auto a = numbers<A>(n, 1);
        auto b = numbers<B>(n, 2);
        Buffer<Y> y(n, 1), wanted(n, 1);
        for (int64_t i = 0; i < n; i++) wanted[i] = stored<Y>(to_double(a[i]) + to_double(b[i]));
        auto& add = kernels_for<Y>(backend).add;
        run(add, view_of(a, {n}), view_of(b, {n}), view_of(y, {n}));
        check_exact(y, wanted);
        if constexpr (std::is_same_v<A, Y>) {
          auto over = a;
          run(add, view_of(over, {n}), view_of(b, {n}), view_of(over, {n}));
          check_exact(over, wanted);
        }
        if constexpr (std::is_same_v<B, Y>) {
          run(add, view_of(a, {n}), view_of(b, {n}), view_of(b, {n}));
          check_exact(b, wanted);
        }
      }
    });
  });
}

TEST_CASE("elementwise: multiply by a tensor or by one element, also in place") {
  for_each_level([](const Backend& backend) {
    for_each_mixture([&]<class A, class B, class Y>() {
      for (int64_t n : kSizes)
        for (int64_t factors : {n, int64_t(1)}) {
          CAPTURE(n);
          CAPTURE(factors);
          auto a = numbers<A>(n, 3);
          auto b = numbers<B>(factors, 4);
          Buffer<Y> y(n, 1), wanted(n, 1);
          for (int64_t i = 0; i < n; i++) wanted[i] = stored<Y>(to_double(a[i]) * to_double(b[factors == 1 ? 0 : i]));
          auto& multiply = kernels_for<Y>(backend).multiply;
          run(multiply, view_of(a, {n}), view_of(b, {factors}), view_of(y, {n}));
          check_exact(y, wanted);
          if constexpr (std::is_same_v<A, Y>) {
            auto over = a;
            run(multiply, view_of(over, {n}), view_of(b, {factors}), view_of(over, {n}));
            check_exact(over, wanted);
          }
          if constexpr (std::is_same_v<B, Y>) {
            if (factors != n) continue;
            run(multiply, view_of(a, {n}), view_of(b, {n}), view_of(b, {n}));
            check_exact(b, wanted);
          }
        }
    });
  });
}

TEST_CASE("elementwise: scale, also in place") {
  for_each_level([](const Backend& backend) {
    for_each_mixture([&]<class X, class, class Y>() {
      for (int64_t n : kSizes) {
        CAPTURE(n);
        constexpr double kAlpha = -0.375;  // exact in every dtype
        auto x = numbers<X>(n, 5);
        Buffer<Y> y(n, 1), wanted(n, 1);
        for (int64_t i = 0; i < n; i++) wanted[i] = stored<Y>(kAlpha * to_double(x[i]));
        auto& scale = kernels_for<Y>(backend).scale;
        run(scale, view_of(x, {n}), kAlpha, view_of(y, {n}));
        check_exact(y, wanted);
        if constexpr (std::is_same_v<X, Y>) {
          run(scale, view_of(x, {n}), kAlpha, view_of(x, {n}));
          check_exact(x, wanted);
        }
      }
    });
  });
}

TEST_CASE("elementwise: accumulate adds alpha·x to what is there") {
  for_each_level([](const Backend& backend) {
    for_each_mixture([&]<class X, class, class Y>() {
      for (int64_t n : kSizes) {
        CAPTURE(n);
        constexpr double kAlpha = 0.7;
        auto x = numbers<X>(n, 6);
        auto y = numbers<Y>(n, 7);
        std::vector<double> before = y.values();
        run(kernels_for<Y>(backend).accumulate, view_of(x, {n}), kAlpha, view_of(y, {n}));
        CHECK(y.guards_intact());
        // Roundings: alpha, the product (none where it is fused), the sum, the store.
        double calculated = std::is_same_v<Y, double> ? 0x1p-53 : 0x1p-24, kept = std::is_same_v<Y, bf16> ? 0x1p-8 : 0;
        for (int64_t i = 0; i < n; i++) {
          double term = kAlpha * to_double(x[i]), exact = before[i] + term;
          double bound = calculated * (3 * std::abs(term) + std::abs(before[i])) * 1.01 + kept * std::abs(exact) * 1.01;
          if (!(std::abs(to_double(y[i]) - exact) <= bound)) FAIL_CHECK("element " << i);
        }
      }
    });
  });
}

TEST_CASE("elementwise: gather_rows copies rows and zeroes those whose index is outside") {
  for_each_level([](const Backend& backend) {
    for (int64_t columns : {1, 7, 16, 33}) {
      check_gather<float>(backend, columns);
      check_gather<bf16>(backend, columns);
      check_gather<double>(backend, columns);
      check_gather<int32_t>(backend, columns);
    }
  });
}

TEST_CASE("elementwise: random_normal gives every element its own number, whatever the level and dtype") {
  for_each_level([](const Backend& backend) {
    for (int64_t n : {1, 17, 16384 + 5}) {
      check_random<float>(backend, n);
      check_random<bf16>(backend, n);
      check_random<double>(backend, n);
    }
  });
}

TEST_CASE("elementwise: known normal numbers, so that no device or compiler drifts") {
  Buffer<double> y(4);
  run(oracle().random_normal, view_of(y, {4}), 0.0, 1.0, int64_t(1), int64_t(2));
  // Philox, √(−2 ln u)·cos 2πv in Python agrees to 1e-13.
  const double known[] = {0x1.60f299ca22b3dp-7, -0x1.61d7be6c58251p-4, -0x1.700d18975ba8bp-1, -0x1.0cc0733f4779ap-1};
  for (int i = 0; i < 4; i++) CHECK(y[i] == known[i]);
}

TEST_CASE("elementwise: the order of tasks does not matter") {
  constexpr int64_t kCount = 5 * 16384 + 3;
  for_each_level([](const Backend& backend) {
    auto x = numbers<float>(kCount, 8);
    Buffer<bf16> once(kCount), shuffled(kCount);
    run(backend.kernels->cast, view_of(x, {kCount}), view_of(once, {kCount}));
    run_on(ShuffledParallel(4), backend.kernels->cast, view_of(x, {kCount}), view_of(shuffled, {kCount}));
    CHECK(shuffled.same_bits(once));
    Buffer<float> drawn(kCount), drawn_shuffled(kCount);
    run(backend.kernels->random_normal, view_of(drawn, {kCount}), 0.0, 1.0, int64_t(5), int64_t(6));
    run_on(ShuffledParallel(4), backend.kernels->random_normal, view_of(drawn_shuffled, {kCount}), 0.0, 1.0, int64_t(5),
           int64_t(6));
    CHECK(drawn_shuffled.same_bits(drawn));
  });
}
