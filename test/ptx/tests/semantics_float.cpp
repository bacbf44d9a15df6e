// f32 and f64 arithmetic in every rounding, with .ftz and .sat, against the host's in the same rounding mode.
#include <cfenv>
#include <cmath>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

// The host's compiler must neither fold nor move what the rounding mode decides.
template <class T>
T opaque(T x) {
  volatile T y = x;
  return y;
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
float saturated(float x) { return x != x || x <= 0 ? 0.0f : x > 1 ? 1.0f : x; }

using Float = std::function<float(const std::vector<float>&)>;
using Double = std::function<double(const std::vector<double>&)>;

struct Modifiers {
  bool ftz, sat;
};
constexpr Modifiers kModifiers[] = {{false, false}, {true, false}, {false, true}, {true, true}};

std::string operand_list(size_t count) {
  return count == 1 ? " %d, %a;" : count == 2 ? " %d, %a, %b;" : " %d, %a, %b, %c;";
}
Operands operands_of(const std::vector<uint64_t>& values, size_t count) {
  return count == 1 ? singles(values) : count == 2 ? pairs(values, values) : triples(values, values, values, 6000);
}

void check_f32(const std::string& opcode, size_t count, int mode, Modifiers m, const Float& reference) {
  const std::string text = opcode + (m.ftz ? ".ftz" : "") + (m.sat ? ".sat" : "") + ".f32" + operand_list(count);
  check(text, "r=" + std::string(count, 'r'), operands_of(floats(), count), [&](const auto& v) {
    std::vector<float> x;
    for (uint64_t raw : v) x.push_back(m.ftz ? flushed(f32(raw)) : f32(raw));
    float result;
    {
      const WithRounding rounding(mode);
      result = opaque(reference(x));
    }
    if (m.ftz) result = flushed(result);
    if (m.sat) result = saturated(result);
    return canonical(result);
  });
}

void check_f64(const std::string& opcode, size_t count, int mode, const Double& reference) {
  check(opcode + ".f64" + operand_list(count), "d=" + std::string(count, 'd'), operands_of(doubles(), count),
        [&](const auto& v) {
          std::vector<double> x;
          for (uint64_t raw : v) x.push_back(f64(raw));
          const WithRounding rounding(mode);
          return bits(opaque(reference(x)));
        });
}

// In every rounding; without a suffix it is to nearest.
void check_rounded(const std::string& mnemonic, size_t count, bool may_saturate, const Float& single,
                   const Double& twice) {
  for (const HostRounding& rounding : kRoundings) {
    for (const Modifiers& m : kModifiers)
      if (may_saturate || !m.sat) check_f32(mnemonic + "." + rounding.suffix, count, rounding.mode, m, single);
    check_f64(mnemonic + "." + rounding.suffix, count, rounding.mode, twice);
  }
}

}  // namespace

TEST_CASE("add, sub, mul in f32 and f64") {
  const auto add = [](const auto& x) { return opaque(x[0]) + opaque(x[1]); };
  const auto sub = [](const auto& x) { return opaque(x[0]) - opaque(x[1]); };
  const auto mul = [](const auto& x) { return opaque(x[0]) * opaque(x[1]); };
  check_rounded("add", 2, true, add, add);
  check_rounded("sub", 2, true, sub, sub);
  check_rounded("mul", 2, true, mul, mul);
  check_f32("add", 2, FE_TONEAREST, {false, false}, add);
  check_f32("mul", 2, FE_TONEAREST, {true, false}, mul);
  check_f64("add", 2, FE_TONEAREST, add);
}

TEST_CASE("fma, mad in f32 and f64") {
  const auto single = [](const auto& x) { return std::fma(opaque(x[0]), opaque(x[1]), opaque(x[2])); };
  check_rounded("fma", 3, true, single, single);
  check_f32("mad.rn", 3, FE_TONEAREST, {false, false}, single);
  check_f64("mad.rz", 3, FE_TOWARDZERO, single);
}

TEST_CASE("div, rcp, sqrt, correctly rounded") {
  const auto div = [](const auto& x) { return opaque(x[0]) / opaque(x[1]); };
  const auto rcp = [](const auto& x) { return opaque(decltype(x[0] + x[0]){1}) / opaque(x[0]); };
  const auto root = [](const auto& x) { return std::sqrt(opaque(x[0])); };
  check_rounded("div", 2, false, div, div);
  check_rounded("rcp", 1, false, rcp, rcp);
  check_rounded("sqrt", 1, false, root, root);
}

TEST_CASE("min, max: NaN and the sign of zero") {
  const auto extremum = [](auto a, auto b, bool less, bool nan_wins) {
    if (a != a && b != b) return a;
    if (a != a || b != b) return nan_wins ? (a != a ? a : b) : (a != a ? b : a);
    if (a == b) return std::signbit(a) == less ? a : b;
    return (a < b) == less ? a : b;
  };
  for (const bool less : {true, false}) {
    const std::string mnemonic = less ? "min" : "max";
    for (const bool nan : {false, true}) {
      const auto plain = [&](const auto& x) { return extremum(x[0], x[1], less, nan); };
      const auto xorsign = [&](const auto& x) {
        const auto size = extremum(std::fabs(x[0]), std::fabs(x[1]), less, nan);
        return std::signbit(x[0]) != std::signbit(x[1]) ? -size : size;
      };
      for (const bool ftz : {false, true}) {
        const std::string suffix = std::string(ftz ? ".ftz" : "") + (nan ? ".NaN" : "");
        const auto checked = [&](const std::string& text, const auto& reference) {
          check(text, "r=rr", pairs(floats(), floats()), [&](const auto& v) {
            std::vector<float> x = {f32(v[0]), f32(v[1])};
            if (ftz) x = {flushed(x[0]), flushed(x[1])};
            return canonical(reference(x));
          });
        };
        checked(mnemonic + suffix + ".f32 %d, %a, %b;", plain);
        checked(mnemonic + suffix + ".xorsign.abs.f32 %d, %a, %b;", xorsign);
      }
    }
    check(mnemonic + ".f64 %d, %a, %b;", "d=dd", pairs(doubles(), doubles()), [&](const auto& v) {
      const double result = extremum(f64(v[0]), f64(v[1]), less, false);
      return result != result ? 0x7ff8000000000000 : bits(result);
    });
  }
}

TEST_CASE("abs, neg, copysign: only the sign bit") {
  check("abs.f32 %d, %a;", "r=r", singles(floats()), [](const auto& v) { return v[0] & 0x7fffffff; });
  check("neg.f32 %d, %a;", "r=r", singles(floats()), [](const auto& v) { return v[0] ^ 0x80000000; });
  check("abs.f64 %d, %a;", "d=d", singles(doubles()), [](const auto& v) { return v[0] & ~(uint64_t{1} << 63); });
  check("neg.f64 %d, %a;", "d=d", singles(doubles()), [](const auto& v) { return v[0] ^ uint64_t { 1 } << 63; });
  check("abs.ftz.f32 %d, %a;", "r=r", singles(floats()),
        [](const auto& v) { return bits(flushed(f32(v[0]))) & 0x7fffffff; });
  check("neg.ftz.f32 %d, %a;", "r=r", singles(floats()),
        [](const auto& v) { return bits(flushed(f32(v[0]))) ^ 0x80000000; });
  check("copysign.f32 %d, %a, %b;", "r=rr", pairs(floats(), floats()),
        [](const auto& v) { return (v[0] & 0x80000000) | (v[1] & 0x7fffffff); });
  check("copysign.f64 %d, %a, %b;", "d=dd", pairs(doubles(), doubles()), [](const auto& v) {
    const uint64_t sign = uint64_t{1} << 63;
    return (v[0] & sign) | (v[1] & ~sign);
  });
}
