// Approximate instructions: within the manual's bounds, plain and perturbed; special values exact.
#include <cmath>
#include <random>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

struct Bound {
  double relative, absolute;
};
using Exact = std::function<long double(long double)>;

std::vector<uint64_t> samples(float least, float most) {
  std::mt19937 random(21);
  std::uniform_real_distribution<float> exponent(std::log2(least), std::log2(most));
  std::vector<uint64_t> values;
  for (int k = 0; k < 3000; ++k) values.push_back(bits(std::exp2(exponent(random)) * (random() % 2 ? 1.0f : -1.0f)));
  return values;
}

std::vector<uint64_t> positive(std::vector<uint64_t> values) {
  for (uint64_t& value : values) value &= 0x7fffffff;
  return values;
}

std::vector<std::vector<uint64_t>> run_with(const std::string& text, const std::string& signature,
                                            const Operands& operands, bool perturb, uint64_t seed) {
  ptx_test::Device device;
  device.options.perturb_approximations = perturb;
  device.options.numerics_seed = seed;
  return run(text, signature, operands, device);
}

// Worst error as a multiple of the bound.
double worst(const std::vector<std::vector<uint64_t>>& found, const Operands& operands,
             const std::function<long double(const std::vector<uint64_t>&)>& exact, Bound bound) {
  double result = 0;
  for (size_t lane = 0; lane < operands.size(); ++lane) {
    const long double wanted = exact(operands[lane]);
    const long double allowed = bound.relative * std::fabs(wanted) + bound.absolute;
    result = std::max(result, static_cast<double>(std::fabs(f32(found[lane][0]) - wanted) / allowed));
  }
  return result;
}

void check_bound(const std::string& text, const std::string& signature, const Operands& operands,
                 const std::function<long double(const std::vector<uint64_t>&)>& exact, Bound bound) {
  CAPTURE(text);
  const auto plain = run_with(text, signature, operands, false, 1);
  CHECK(worst(plain, operands, exact, bound) <= 1);
  const auto perturbed = run_with(text, signature, operands, true, 1);
  CHECK(worst(perturbed, operands, exact, bound) <= 1);
  CHECK(perturbed != plain);
  // A function of the seed and the operands, of nothing else.
  CHECK(run_with(text, signature, operands, true, 1) == perturbed);
  CHECK(run_with(text, signature, operands, true, 2) != perturbed);
}

void check_unary(const std::string& opcode, const std::vector<uint64_t>& values, const Exact& exact, Bound bound) {
  check_bound(opcode + ".f32 %d, %a;", "r=r", singles(values), [&](const auto& v) { return exact(f32(v[0])); }, bound);
}

constexpr float kHuge = 0x1p120f, kTiny = 0x1p-120f;
constexpr uint64_t kZero = 0, kMinusZero = 0x80000000, kInfinity = 0x7f800000, kMinusInfinity = 0xff800000,
                   kNan = 0x7fffffff, kOne = 0x3f800000, kMinusOne = 0xbf800000;

// Operand and result pairs, also perturbed.
void check_special(const std::string& opcode, const std::vector<std::pair<uint64_t, uint64_t>>& cases) {
  for (const bool perturb : {false, true})
    for (const auto& [operand, expected] : cases) {
      CAPTURE(opcode);
      CAPTURE(operand);
      CHECK(run_with(opcode + ".f32 %d, %a;", "r=r", {{operand}}, perturb, 1)[0][0] == expected);
    }
}

}  // namespace

TEST_CASE("rcp, rsqrt, sqrt within their bounds") {
  const auto wide = samples(kTiny, kHuge);
  for (const char* ftz : {"", ".ftz"}) {
    check_unary(std::string("rcp.approx") + ftz, wide, [](long double x) { return 1 / x; }, {0x1p-23, 0});
    check_unary(std::string("rsqrt.approx") + ftz, positive(wide), [](long double x) { return 1 / std::sqrt(x); },
                {0x1.12p-23, 0});
    check_unary(std::string("sqrt.approx") + ftz, positive(wide), [](long double x) { return std::sqrt(x); },
                {0x1p-23, 0});
  }
  check_special("rcp.approx", {{kZero, kInfinity},
                               {kMinusZero, kMinusInfinity},
                               {kInfinity, kZero},
                               {kMinusInfinity, kMinusZero},
                               {kNan, kNan}});
  check_special(
      "rsqrt.approx",
      {{kZero, kInfinity}, {kMinusZero, kMinusInfinity}, {kInfinity, kZero}, {kMinusOne, kNan}, {kNan, kNan}});
  check_special("sqrt.approx", {{kZero, kZero}, {kMinusZero, kMinusZero}, {kInfinity, kInfinity}, {kMinusOne, kNan}});
  // .ftz: subnormal operands count as zero, subnormal results become zero.
  check_special("rcp.approx.ftz", {{0x00000001, kInfinity}, {0x807fffff, kMinusInfinity}, {0x7f000001, kZero}});
}

TEST_CASE("ex2, lg2 within their bounds") {
  const auto exponents = samples(0x1p-20f, 120.0f);
  for (const char* ftz : {"", ".ftz"}) {
    check_unary(std::string("ex2.approx") + ftz, exponents, [](long double x) { return std::exp2(x); }, {0x1p-22, 0});
    check_unary(std::string("lg2.approx") + ftz, positive(samples(0.5f, 2.0f)),
                [](long double x) { return std::log2(x); }, {0, 0x1p-22});
    check_unary(std::string("lg2.approx") + ftz, positive(samples(2.0f, kHuge)),
                [](long double x) { return std::log2(x); }, {0x1p-22, 0});
  }
  check_special("ex2.approx", {{kZero, kOne},
                               {kMinusZero, kOne},
                               {kInfinity, kInfinity},
                               {kMinusInfinity, kZero},
                               {kNan, kNan},
                               {bits(200.0f), kInfinity},
                               {bits(-200.0f), kZero}});
  check_special("lg2.approx", {{kOne, kZero},
                               {kZero, kMinusInfinity},
                               {kMinusZero, kMinusInfinity},
                               {kInfinity, kInfinity},
                               {kMinusOne, kNan}});
  // Whole exponents down to the subnormals are exact when not perturbed.
  for (int e = -149; e <= 127; ++e)
    CHECK(run_with("ex2.approx.f32 %d, %a;", "r=r", {{bits(static_cast<float>(e))}}, false, 1)[0][0] ==
          bits(std::ldexp(1.0f, e)));
}

TEST_CASE("sin, cos, tanh within their bounds") {
  const auto angles = samples(0x1p-10f, 6.28f);
  check_unary("sin.approx", angles, [](long double x) { return std::sin(x); }, {0, 0x1p-20});
  check_unary("cos.approx.ftz", angles, [](long double x) { return std::cos(x); }, {0, 0x1p-20});
  check_unary("tanh.approx", samples(0x1p-10f, 10.0f), [](long double x) { return std::tanh(x); }, {0x1p-11, 0});
  check_special("sin.approx", {{kZero, kZero}, {kMinusZero, kMinusZero}, {kInfinity, kNan}});
  check_special("cos.approx", {{kZero, kOne}, {kInfinity, kNan}});
  check_special("tanh.approx", {{kZero, kZero}, {kInfinity, kOne}, {kMinusInfinity, kMinusOne}, {kNan, kNan}});
}

TEST_CASE("div.approx, div.full within two units") {
  const auto values = samples(0x1p-60f, 0x1p60f);
  const auto quotient = [](const auto& v) { return static_cast<long double>(f32(v[0])) / f32(v[1]); };
  for (const char* mode : {"approx", "approx.ftz", "full", "full.ftz"})
    check_bound(std::string("div.") + mode + ".f32 %d, %a, %b;", "r=rr", triples(values, values, {0}), quotient,
                {0x1p-22, 0});
  // A divisor beyond 2^126 loses the quotient, but not in div.full.
  const uint64_t big = bits(0x1p127f);
  CHECK(run_with("div.approx.f32 %d, %a, %b;", "r=rr", {{big, big}}, false, 1)[0][0] == kZero);
  CHECK(run_with("div.approx.f32 %d, %a, %b;", "r=rr", {{kInfinity, big}}, false, 1)[0][0] == kNan);
  CHECK(run_with("div.full.f32 %d, %a, %b;", "r=rr", {{big, big}}, false, 1)[0][0] == kOne);
}

TEST_CASE("ex2 and tanh of halves, single and packed") {
  struct Case {
    const char* opcode;
    bool is_bf16, is_ex2;
    double relative, absolute;
  };
  // One unit in the last place of the format comes on top of the instruction's own error.
  for (const Case& c :
       {Case{"ex2.approx.f16", false, true, 0x1p-9, 0}, Case{"ex2.approx.ftz.bf16", true, true, 0x1p-7, 0},
        Case{"tanh.approx.f16", false, false, 0, 0x1p-10}, Case{"tanh.approx.bf16", true, false, 0, 0x1p-8}})
    for (const bool perturb : {false, true}) {
      Operands operands;
      for (uint64_t k = 0; k < 65536; k += 7) operands.push_back({k});
      const auto single = run_with(std::string(c.opcode) + " %d, %a;", "h=h", operands, perturb, 1);
      double most = 0;
      for (size_t lane = 0; lane < operands.size(); ++lane) {
        const double x = half_value(static_cast<uint16_t>(operands[lane][0]), c.is_bf16);
        const double wanted = c.is_ex2 ? std::exp2(x) : std::tanh(x);
        const double got = half_value(static_cast<uint16_t>(single[lane][0]), c.is_bf16);
        const bool comparable = std::isfinite(wanted) && std::isfinite(got) && std::fabs(wanted) >= 0x1p-14;
        if (comparable) most = std::max(most, std::fabs(got - wanted) / (c.relative * std::fabs(wanted) + c.absolute));
        if (wanted != wanted) CHECK(single[lane][0] == 0x7fff);
      }
      CHECK(most <= 1);
      Operands packed;
      for (size_t k = 0; k < operands.size(); ++k)
        packed.push_back({operands[k][0] | operands[operands.size() - 1 - k][0] << 16});
      const auto pairs_found = run_with(std::string(c.opcode) + "x2 %d, %a;", "r=r", packed, perturb, 1);
      bool same = true;
      for (size_t k = 0; k < packed.size(); ++k)
        same = same && pairs_found[k][0] == (single[k][0] | single[packed.size() - 1 - k][0] << 16);
      CHECK(same);
    }
}

TEST_CASE("rcp.approx.ftz.f64, rsqrt.approx.f64: twenty bits") {
  Operands operands;
  for (uint64_t raw : {bits(1.0), bits(3.0), bits(0.1), bits(12345.678), bits(1e300), bits(1e-300)})
    operands.push_back({raw});
  const auto reciprocal = run_with("rcp.approx.ftz.f64 %d, %a;", "d=d", operands, false, 1);
  const auto root = run_with("rsqrt.approx.ftz.f64 %d, %a;", "d=d", operands, false, 1);
  for (size_t k = 0; k < operands.size(); ++k) {
    const double x = f64(operands[k][0]);
    CHECK(std::fabs(f64(reciprocal[k][0]) * x - 1) < 0x1p-19);
    CHECK(std::fabs(f64(root[k][0]) * std::sqrt(x) - 1) < 0x1p-19);
    CHECK((reciprocal[k][0] & 0xffffffff) == 0);
  }
}
