// simd.h: exp to the last place, bf16 rounding of every upper half, tails, reductions; and bf16.h, its scalar half.
#include "core/bf16.h"
#include "helpers.h"
#include "simd_functions.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

template <class Body>
void for_each_instruction_set([[maybe_unused]] Body body) {
#if defined(__x86_64__) && !defined(__clang__)
  if (cpu::processor().avx2) {
    INFO("avx2");
    body(simd_functions_avx2());
  }
  if (cpu::processor().avx512) {
    INFO("avx512");
    body(simd_functions_avx512());
  }
#endif
}

float exp_of(const SimdFunctions& simd, float x) {
  Buffer<float> in = Buffer<float>::filled(simd.width, x), out(simd.width);
  simd.exp(in.data(), out.data());
  return out[0];
}

float from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
uint32_t to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }

// Every upper half with lower halves just below, at and above the tie, and at the ends.
std::vector<float> around_every_bf16() {
  std::vector<float> values;
  for (uint32_t upper = 0; upper < 65536; upper++)
    for (uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(from_bits(upper << 16 | lower));
  return values;
}

void check_rounding(float x, bf16 got) {
  bool same = std::isnan(x) ? std::isnan(to_double(got)) && got.bits >> 15 == to_bits(x) >> 31
                            : got.bits == from_double<bf16>(x).bits;
  if (!same) FAIL_CHECK("bf16 of the float with bits " << to_bits(x) << " is " << got.bits);
}

}  // namespace

TEST_CASE("simd: exp is within 1 ulp wherever eˣ is a normal float") {
  for_each_instruction_set([](const SimdFunctions& simd) {
    constexpr uint32_t kStride = 251;  // of all bit patterns: odd, so that every low bit pattern occurs
    double worst = 0;
    Buffer<float> x(simd.width), y(simd.width);
    int64_t lanes = 0;
    for (uint64_t bits = 0; bits < (1ull << 32); bits += kStride) {
      float value = from_bits(static_cast<uint32_t>(bits));
      if (!(value >= -87.3365f && value <= 88.7228f)) continue;
      x[lanes++] = value;
      if (lanes < simd.width) continue;
      lanes = 0;
      simd.exp(x.data(), y.data());
      for (int64_t i = 0; i < simd.width; i++) {
        double exact = std::exp(static_cast<double>(x[i]));
        worst = std::max(worst, std::abs(y[i] - exact) / std::ldexp(1.0, std::ilogb(exact) - 23));
      }
    }
    CHECK(worst <= 1.0);
  });
}

TEST_CASE("simd: exp underflows to 0, overflows to inf, keeps NaN") {
  for_each_instruction_set([](const SimdFunctions& simd) {
    for (float x : {-87.34f, -100.0f, -1e4f, -1e30f, -INFINITY}) CHECK(exp_of(simd, x) == 0.0f);
    for (float x : {88.73f, 89.0f, 127.0f, 1e4f, 1e30f, INFINITY}) CHECK(exp_of(simd, x) == INFINITY);
    CHECK(std::isnan(exp_of(simd, NAN)));
    CHECK(exp_of(simd, 0.0f) == 1.0f);
    CHECK(exp_of(simd, -0.0f) == 1.0f);
    CHECK(std::isfinite(exp_of(simd, 88.72f)));
  });
}

TEST_CASE("simd: bf16 rounds to nearest even around every bf16 value, NaN stays NaN") {
  std::vector<float> values = around_every_bf16();
  for (float x : values) check_rounding(x, to_bf16(x));
  for_each_instruction_set([&](const SimdFunctions& simd) {
    Buffer<float> x(simd.width);
    Buffer<bf16> y(simd.width);
    for (size_t i = 0; i < values.size(); i += simd.width) {
      for (int64_t lane = 0; lane < simd.width; lane++) x[lane] = values[(i + lane) % values.size()];
      simd.narrow(x.data(), y.data(), simd.width);
      for (int64_t lane = 0; lane < simd.width; lane++) check_rounding(x[lane], y[lane]);
    }
  });
}

TEST_CASE("bf16 of a double rounds once") {
  for (uint32_t upper = 0; upper < 65536; upper += 1) {
    double tie = from_bits(upper << 16 | 0x8000u);
    if (std::isnan(tie) || std::isinf(tie)) continue;
    double nudge = std::ldexp(std::abs(tie), -45);
    for (double x : {tie, tie - nudge, tie + nudge}) {
      if (to_bf16(x).bits != from_double<bf16>(x).bits) FAIL_CHECK("bf16 of the double " << x);
    }
  }
  CHECK(to_bf16(1e300).bits == 0x7f80);
  CHECK(to_bf16(-1e-300).bits == 0x8000);
  CHECK(std::isnan(to_double(to_bf16(static_cast<double>(NAN)))));
}

TEST_CASE("simd: tails read and write exactly n elements, for every n") {
  for_each_instruction_set([](const SimdFunctions& simd) {
    for (int64_t n = 0; n <= simd.width; n++) {
      CAPTURE(n);
      // The shift puts the last element at the guard, so that one too many would be noticed.
      auto x = Buffer<float>::of(random_normal(n, 1, 5 + n), 3);
      Buffer<float> all(simd.width), first(n, 1);
      simd.copy_float(x.data(), all.data(), first.data(), n);
      CHECK(first.same_bits(x));
      CHECK(first.guards_intact());
      for (int64_t i = n; i < simd.width; i++) CHECK(to_bits(all[i]) == 0);

      auto half = Buffer<bf16>::of(random_normal(n, 1, 50 + n), 3);
      simd.widen(half.data(), all.data(), n);
      for (int64_t i = 0; i < simd.width; i++) CHECK(all[i] == (i < n ? to_double(half[i]) : 0.0));
      Buffer<bf16> narrowed(n, 1);
      simd.narrow(all.data(), narrowed.data(), n);
      CHECK(narrowed.same_bits(half));
      CHECK(narrowed.guards_intact());

      auto a = Buffer<float>::filled(simd.width, 1), b = Buffer<float>::filled(simd.width, 2);
      simd.select(a.data(), b.data(), all.data(), n);
      for (int64_t i = 0; i < simd.width; i++) CHECK(all[i] == (i < n ? 1.0f : 2.0f));
    }
  });
}

TEST_CASE("simd: reductions see every lane") {
  for_each_instruction_set([](const SimdFunctions& simd) {
    auto powers = Buffer<float>(simd.width);  // distinct powers of two: a lost or doubled lane changes the sum
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < simd.width; i++) {
      powers[i] = std::ldexp(1.0f, static_cast<int>(i));
      sum += powers[i];
      squares += powers[i] * powers[i];
    }
    CHECK(simd.sum(powers.data()) == sum);
    CHECK(simd.sum_of_squares(powers.data()) == squares);
    for (int64_t lane = 0; lane < simd.width; lane++) {
      auto x = Buffer<float>::filled(simd.width, -3);
      x[lane] = 1e30f;
      CHECK(simd.largest(x.data()) == 1e30f);
      CHECK(simd.sum_of_squares(x.data()) == doctest::Approx(1e60));
    }
  });
}
