// f16 and bf16 arithmetic, single and packed: computed exactly in f64 or by exact rational steps, rounded once.
#include <cfenv>
#include <cmath>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

struct HalfType {
  const char* name;
  bool is_bf16;
};
constexpr HalfType kTypes[] = {{"f16", false}, {"bf16", true}};

uint16_t flush_half(uint16_t x) { return (x & 0x7c00) == 0 ? x & 0x8000 : x; }

// long double has 64 bits: sums of two halves (at most 40 + 11 bits apart for f16) and products are exact in it; bf16
// sums and fma of far exponents are not, but err by so little beyond the last bit that the sign of it is kept as
// `rest`.
struct Exact {
  long double value;
  long double rest = 0;
};

uint16_t round_exact(Exact x, bool is_bf16) {
  if (x.rest == 0 || x.value != x.value || std::isinf(x.value))
    return round_half(static_cast<double>(x.value), is_bf16, FE_TONEAREST);
  // A hair beyond a representable value or a tie decides as the hair points: 2^-40 of the value is far below half a
  // unit.
  const long double hair = std::fabs(x.value) * 0x1p-40L;
  return round_half(static_cast<double>(x.value + (x.rest > 0 ? hair : -hair)), is_bf16, FE_TONEAREST);
}

Exact exact_sum(long double a, long double b) {
  const long double sum = a + b;
  if (sum != sum || std::isinf(sum)) return {sum};
  const long double part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}

using Operation = std::function<Exact(const std::vector<long double>&)>;

struct Modifier {
  const char* suffix;
  bool ftz, sat, relu, only_f16;
};
constexpr Modifier kModifiers[] = {{"", false, false, false, false},
                                   {".ftz", true, false, false, true},
                                   {".sat", false, true, false, true},
                                   {".ftz.sat", true, true, false, true}};

uint16_t half_result(const Operation& operation, const std::vector<uint64_t>& raw, int shift, const HalfType& type,
                     const Modifier& m) {
  std::vector<long double> x;
  for (uint64_t value : raw) {
    const auto half = static_cast<uint16_t>(value >> shift);
    x.push_back(half_value(m.ftz ? flush_half(half) : half, type.is_bf16));
  }
  Exact exact = operation(x);
  if (m.sat) exact = exact.value != exact.value || exact.value <= 0 ? Exact{0} : exact.value >= 1 ? Exact{1} : exact;
  if (m.relu && exact.value <= 0) exact = {0};
  const uint16_t result = round_exact(exact, type.is_bf16);
  return m.ftz ? flush_half(result) : result;
}

void check_half(const std::string& mnemonic, size_t count, const std::vector<Modifier>& modifiers,
                const Operation& operation) {
  const std::string list = count == 1 ? " %d, %a;" : count == 2 ? " %d, %a, %b;" : " %d, %a, %b, %c;";
  const auto operands = [&](const std::vector<uint64_t>& values) {
    return count == 1 ? singles(values) : count == 2 ? pairs(values, values) : triples(values, values, values, 8000);
  };
  for (const HalfType& type : kTypes)
    for (const Modifier& m : modifiers) {
      if (m.only_f16 && type.is_bf16) continue;
      check(mnemonic + m.suffix + "." + type.name + list, "h=" + std::string(count, 'h'), operands(halves()),
            [&](const auto& v) { return half_result(operation, v, 0, type, m); });
      check(mnemonic + m.suffix + "." + type.name + "x2" + list, "r=" + std::string(count, 'r'), operands(half_pairs()),
            [&](const auto& v) {
              return half_result(operation, v, 0, type, m) | uint64_t{half_result(operation, v, 16, type, m)} << 16;
            });
    }
}

}  // namespace

TEST_CASE("add, sub, mul of halves") {
  const std::vector<Modifier> all(std::begin(kModifiers), std::end(kModifiers));
  for (const char* rounding : {"", ".rn"}) {
    check_half(std::string("add") + rounding, 2, all, [](const auto& x) { return exact_sum(x[0], x[1]); });
    check_half(std::string("sub") + rounding, 2, all, [](const auto& x) { return exact_sum(x[0], -x[1]); });
    check_half(std::string("mul") + rounding, 2, all, [](const auto& x) { return Exact{x[0] * x[1]}; });
  }
}

TEST_CASE("fma of halves: one rounding") {
  const std::vector<Modifier> modifiers = {kModifiers[0],
                                           kModifiers[1],
                                           kModifiers[2],
                                           kModifiers[3],
                                           {".relu", false, false, true, false},
                                           {".ftz.relu", true, false, true, true}};
  check_half("fma.rn", 3, modifiers, [](const auto& x) { return exact_sum(x[0] * x[1], x[2]); });
}

TEST_CASE("min, max, neg, abs of halves") {
  const auto extremum = [](long double a, long double b, bool less, bool nan_wins) -> Exact {
    if (a != a || b != b) return {nan_wins || (a != a && b != b) ? std::nanl("") : a != a ? b : a};
    if (a == b) return {std::signbit(a) == less ? a : b};
    return {(a < b) == less ? a : b};
  };
  const std::vector<Modifier> modifiers = {kModifiers[0], kModifiers[1]};
  const std::vector<Modifier> nan_modifiers = {{".NaN", false, false, false, false},
                                               {".ftz.NaN", true, false, false, true}};
  for (const bool less : {true, false}) {
    const std::string mnemonic = less ? "min" : "max";
    check_half(mnemonic, 2, modifiers, [&](const auto& x) { return extremum(x[0], x[1], less, false); });
    check_half(mnemonic, 2, nan_modifiers, [&](const auto& x) { return extremum(x[0], x[1], less, true); });
    for (const bool nan : {false, true}) {
      const std::string suffix = nan ? ".NaN.xorsign.abs" : ".xorsign.abs", flushed = ".ftz" + suffix;
      check_half(mnemonic, 2,
                 {{suffix.c_str(), false, false, false, false}, {flushed.c_str(), true, false, false, true}},
                 [&](const auto& x) {
                   const Exact size = extremum(std::fabs(x[0]), std::fabs(x[1]), less, nan);
                   return Exact{std::signbit(x[0]) != std::signbit(x[1]) ? -size.value : size.value};
                 });
    }
  }
  for (const HalfType& type : kTypes) {
    const std::string name = type.name;
    check("neg." + name + " %d, %a;", "h=h", singles(halves()), [](const auto& v) { return v[0] ^ 0x8000; });
    check("abs." + name + " %d, %a;", "h=h", singles(halves()), [](const auto& v) { return v[0] & 0x7fff; });
    check("neg." + name + "x2 %d, %a;", "r=r", singles(half_pairs()), [](const auto& v) { return v[0] ^ 0x80008000; });
    check("abs." + name + "x2 %d, %a;", "r=r", singles(half_pairs()), [](const auto& v) { return v[0] & 0x7fff7fff; });
  }
  const auto flushed = [](uint64_t x) { return uint64_t{flush_half(static_cast<uint16_t>(x))}; };
  const auto both = [&](uint64_t x) { return flushed(x & 0xffff) | flushed(x >> 16) << 16; };
  check("neg.ftz.f16 %d, %a;", "h=h", singles(halves()), [&](const auto& v) { return flushed(v[0]) ^ 0x8000; });
  check("abs.ftz.f16 %d, %a;", "h=h", singles(halves()), [&](const auto& v) { return flushed(v[0]) & 0x7fff; });
  check("neg.ftz.f16x2 %d, %a;", "r=r", singles(half_pairs()), [&](const auto& v) { return both(v[0]) ^ 0x80008000; });
  check("abs.ftz.f16x2 %d, %a;", "r=r", singles(half_pairs()), [&](const auto& v) { return both(v[0]) & 0x7fff7fff; });
}
