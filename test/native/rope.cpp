// rope, every level and dtype, against the rotation computed in long double.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  const char* path;
  int64_t R, H, D, period;
  bool positions;
  double theta = 10000;
};

const std::vector<Case> kCases = {
    {"smallest width", 3, 1, 2, 3, false},
    {"half width below a vector, several sequences", 10, 2, 6, 5, false},
    {"half width of one AVX2 vector", 7, 3, 16, 7, false},
    {"usual width", 40, 4, 64, 20, false},
    {"half width that is no multiple of a vector", 9, 2, 80, 3, false},
    {"positions from a buffer, far out", 33, 2, 64, 1, true, 500000},
    {"positions from a buffer, odd sizes", 5, 3, 10, 1, true},
    {"last sequence cut short", 11, 2, 8, 4, false},
};

std::vector<int32_t> positions_of(const Case& c) {
  std::vector<int32_t> positions(c.R);
  for (int64_t r = 0; r < c.R; r++)
    positions[r] = c.positions ? static_cast<int32_t>((r * 7919 + 13) % 131072) : static_cast<int32_t>(r % c.period);
  return positions;
}

std::vector<double> rotated(const Case& c, const std::vector<double>& x, double direction) {
  std::vector<double> y(x.size());
  std::vector<int32_t> positions = positions_of(c);
  int64_t half = c.D / 2;
  for (int64_t row = 0; row < c.R * c.H; row++) {
    for (int64_t i = 0; i < half; i++) {
      long double frequency = std::pow(static_cast<long double>(c.theta), -2.0L * i / c.D);
      long double angle = direction * positions[row / c.H] * frequency;
      long double low = x[row * c.D + i], high = x[row * c.D + half + i];
      y[row * c.D + i] = static_cast<double>(low * std::cos(angle) - high * std::sin(angle));
      y[row * c.D + half + i] = static_cast<double>(high * std::cos(angle) + low * std::sin(angle));
    }
  }
  return y;
}

template <class S>
Buffer<S> input(const Case& c) {
  return Buffer<S>::of(random_normal(c.R * c.H * c.D, 1, 11), 1);
}

template <class S>
void rope(const Kernels& kernels, const Case& c, Buffer<S>& x, bool inverse, const Parallel& parallel = {}) {
  Buffer<int32_t> positions(c.R);
  std::memcpy(positions.data(), positions_of(c).data(), c.R * sizeof(int32_t));
  run_on(parallel, kernels.rope, view_of(x, {c.R, c.H, c.D}), c.positions ? view_of(positions, {c.R}) : absent,
         c.period, c.theta, inverse);
}

}  // namespace

// The angle is a double: an error of 10⁵ · 2⁻⁵³ at the far positions.
TEST_CASE("rope: the f64 plain loops rotate, and the inverse turns back") {
  for (const Case& c : kCases) {
    INFO(c.path);
    Buffer<double> x = input<double>(c);
    std::vector<double> before = x.values();
    rope(oracle(), c, x, false);
    CHECK(max_error(x.values(), rotated(c, before, 1)) < 1e-9);
    rope(oracle(), c, x, true);
    CHECK(max_error(x.values(), before) < 1e-14 * 10);
  }
}

// f32: two products, one sum and the rounded sine and cosine, of numbers up to 5. bf16: one rounding of the result.
TEST_CASE_TEMPLATE("rope: forward and inverse at every level", S, float, bf16) {
  double step = std::is_same_v<S, float> ? 2e-6 : 1.0 / 64;
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      for (bool inverse : {false, true}) {
        INFO(c.path << (inverse ? ", inverse" : ""));
        Buffer<S> x = input<S>(c);
        std::vector<double> expected = rotated(c, x.values(), inverse ? -1 : 1);
        rope(*backend.kernels, c, x, inverse);
        CHECK(max_error(x.values(), expected) < step);
        CHECK(x.guards_intact());
      }
    }
  });
}

TEST_CASE_TEMPLATE("rope: a position is rotated alike wherever it comes from, on any threads", S, float, bf16) {
  Case counted{"", 60, 3, 64, 30, false};
  for_each_level([&](const Backend& backend) {
    Buffer<S> together = input<S>(counted), shuffled = input<S>(counted), single = input<S>(counted);
    rope(*backend.kernels, counted, together, false);
    rope(*backend.kernels, counted, shuffled, false, ShuffledParallel(4, 3));
    CHECK(together.same_bits(shuffled));
    int64_t row = counted.H * counted.D;
    for (int64_t r = 0; r < counted.R; r++) {  // each row alone, its position from a buffer
      Buffer<S> x(row);
      std::memcpy(x.data(), single.data() + r * row, row * sizeof(S));
      Buffer<int32_t> position = Buffer<int32_t>::filled(1, static_cast<double>(r % counted.period));
      run(backend.kernels->rope, view_of(x, {1, counted.H, counted.D}), view_of(position, {1}), 1, counted.theta,
          false);
      CHECK(std::memcmp(x.data(), together.data() + r * row, row * sizeof(S)) == 0);
    }
  });
}
