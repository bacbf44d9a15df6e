// Options::fuse: products without a rounding may go unrounded into the sum that alone uses them.
#include <cmath>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

// Results for factors whose product rounds, with and without fusing; seeds until one fuses the only pair.
std::vector<std::vector<uint64_t>> results(const std::string& text, const std::string& signature,
                                           const Operands& operands, bool fuse, uint64_t seed = 0) {
  ptx_test::Device device;
  device.options.fuse = fuse;
  device.options.numerics_seed = seed;
  return run(text, signature, operands, device);
}

// Where the rounding of the product shows, in a sum or in a difference.
const Operands kSingles = {{bits(1.0f + 0x1p-12f), bits(1.0f + 0x1p-13f), bits(-1.0f)},
                           {bits(0.1f), bits(0.3f), bits(-0.03f)},
                           {bits(1.0f + 0x1p-12f), bits(1.0f + 0x1p-13f), bits(1.0f)},
                           {bits(0.1f), bits(0.3f), bits(0.03f)}};

bool is_ever_fused(const std::string& text) {
  const auto plain = results(text, "r=rrr", kSingles, false);
  for (uint64_t seed = 0; seed < 20; ++seed)
    if (results(text, "r=rrr", kSingles, true, seed) != plain) return true;
  return false;
}

void check_fused(const std::string& text, const std::function<float(float, float, float)>& exact) {
  CAPTURE(text);
  const auto plain = results(text, "r=rrr", kSingles, false);
  bool fused_once = false, plain_once = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto found = results(text, "r=rrr", kSingles, true, seed);
    if (found == plain) {
      plain_once = true;
      continue;
    }
    fused_once = true;
    for (size_t k = 0; k < kSingles.size(); ++k)
      CHECK(found[k][0] == bits(exact(f32(kSingles[k][0]), f32(kSingles[k][1]), f32(kSingles[k][2]))));
  }
  // The seed chooses.
  CHECK(fused_once);
  CHECK(plain_once);
}

}  // namespace

TEST_CASE("fuse: sums and differences, the product on either side") {
  check_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.f32 %d, %p, %c;",
              [](float a, float b, float c) { return std::fma(a, b, c); });
  check_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.f32 %d, %c, %p;",
              [](float a, float b, float c) { return std::fma(a, b, c); });
  check_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nsub.f32 %d, %p, %c;",
              [](float a, float b, float c) { return std::fma(a, b, -c); });
  check_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nsub.f32 %d, %c, %p;",
              [](float a, float b, float c) { return std::fma(-a, b, c); });
  check_fused(".reg .f32 %p;\nmul.ftz.f32 %p, %a, %b;\nsub.ftz.f32 %d, %c, %p;",
              [](float a, float b, float c) { return std::fma(-a, b, c); });
  check_fused(".reg .f32 %p, %m;\nneg.f32 %m, %c;\nmul.ftz.f32 %p, %a, %b;\nsub.ftz.f32 %d, %p, %m;",
              [](float a, float b, float c) { return std::fma(a, b, c); });
}

TEST_CASE("fuse: differences in f64") {
  const Operands operands = {{bits(1.0 + 0x1p-30), bits(1.0 + 0x1p-29), bits(1.0)}, {bits(0.1), bits(0.3), bits(0.03)}};
  const auto check_difference = [&](const std::string& text,
                                    const std::function<double(double, double, double)>& exact) {
    CAPTURE(text);
    const auto plain = results(text, "d=ddd", operands, false);
    bool fused_once = false;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const auto found = results(text, "d=ddd", operands, true, seed);
      if (found == plain) continue;
      fused_once = true;
      for (size_t k = 0; k < operands.size(); ++k)
        CHECK(found[k][0] == bits(exact(f64(operands[k][0]), f64(operands[k][1]), f64(operands[k][2]))));
    }
    CHECK(fused_once);
  };
  check_difference(".reg .f64 %p;\nmul.f64 %p, %a, %b;\nsub.f64 %d, %p, %c;",
                   [](double a, double b, double c) { return std::fma(a, b, -c); });
  check_difference(".reg .f64 %p;\nmul.f64 %p, %a, %b;\nsub.f64 %d, %c, %p;",
                   [](double a, double b, double c) { return std::fma(-a, b, c); });
}

TEST_CASE("fuse: never a rounding that is written, a second use, another block or a factor that has gone") {
  CHECK(is_ever_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(".reg .f32 %p;\nmul.rn.f32 %p, %a, %b;\nadd.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.rn.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.sat.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(".reg .f32 %p;\nmul.ftz.f32 %p, %a, %b;\nadd.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(
      ".reg .f32 %p;\nmul.f32 %p, %a, %b;\nadd.f32 %d, %p, %c;\nadd.f32 %d, %d, %p;\nsub.f32 %d, %d, %p;"));
  CHECK_FALSE(is_ever_fused(".reg .f32 %p;\nmul.f32 %p, %a, %b;\nbra.uni behind;\nbehind:\nadd.f32 %d, %p, %c;"));
  CHECK_FALSE(is_ever_fused(
      ".reg .f32 %p;\nmul.f32 %p, %a, %b;\nmov.f32 %a, 0f00000000;\nadd.f32 %d, %p, %c;\nadd.f32 %d, %d, %a;"));
}
