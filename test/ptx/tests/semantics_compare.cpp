// setp, set, selp, slct, testp, mov: every comparison in every type, with NaN.
#include <cmath>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

struct Comparison {
  const char* name;
  bool less, equal, greater, unordered;  // where it holds
};
constexpr Comparison kOrdered[] = {{"eq", false, true, false, false}, {"ne", true, false, true, false},
                                   {"lt", true, false, false, false}, {"le", true, true, false, false},
                                   {"gt", false, false, true, false}, {"ge", false, true, true, false}};
constexpr Comparison kUnsignedNames[] = {{"lo", true, false, false, false},
                                         {"ls", true, true, false, false},
                                         {"hi", false, false, true, false},
                                         {"hs", false, true, true, false}};
constexpr Comparison kUnordered[] = {{"equ", false, true, false, true}, {"neu", true, false, true, true},
                                     {"ltu", true, false, false, true}, {"leu", true, true, false, true},
                                     {"gtu", false, false, true, true}, {"geu", false, true, true, true},
                                     {"num", true, true, true, false},  {"nan", false, false, false, true}};

template <class T>
bool holds(const Comparison& c, T a, T b) {
  if (a != a || b != b) return c.unordered;
  return a < b ? c.less : a == b ? c.equal : c.greater;
}

struct Type {
  const char* name;
  char kind;
  std::function<long double(uint64_t)> value;
  bool is_float;
};

long double signed_value(uint64_t x, int bits) {
  return static_cast<long double>(static_cast<int64_t>(x << (64 - bits)) >> (64 - bits));
}

const std::vector<Type>& types() {
  static const std::vector<Type> kTypes = {
      {"u16", 'h', [](uint64_t x) { return static_cast<long double>(x & 0xffff); }, false},
      {"u32", 'r', [](uint64_t x) { return static_cast<long double>(x & 0xffffffff); }, false},
      {"u64", 'd', [](uint64_t x) { return static_cast<long double>(x); }, false},
      {"s16", 'h', [](uint64_t x) { return signed_value(x, 16); }, false},
      {"s32", 'r', [](uint64_t x) { return signed_value(x, 32); }, false},
      {"s64", 'd', [](uint64_t x) { return signed_value(x, 64); }, false},
      {"f32", 'r', [](uint64_t x) { return static_cast<long double>(f32(x)); }, true},
      {"f64", 'd', [](uint64_t x) { return static_cast<long double>(f64(x)); }, true},
      {"f16", 'h', [](uint64_t x) { return static_cast<long double>(half_value(static_cast<uint16_t>(x), false)); },
       true},
      {"bf16", 'h', [](uint64_t x) { return static_cast<long double>(half_value(static_cast<uint16_t>(x), true)); },
       true},
  };
  return kTypes;
}

std::vector<uint64_t> values_of(const Type& t) {
  if (!t.is_float) return integers(t.kind == 'h' ? 16 : t.kind == 'r' ? 32 : 64);
  return t.kind == 'h' ? halves() : t.kind == 'r' ? floats() : doubles();
}

std::vector<Comparison> comparisons(const Type& t) {
  std::vector<Comparison> all(std::begin(kOrdered), std::end(kOrdered));
  if (t.is_float) all.insert(all.end(), std::begin(kUnordered), std::end(kUnordered));
  if (t.name[0] == 'u') all.insert(all.end(), std::begin(kUnsignedNames), std::end(kUnsignedNames));
  return all;
}

}  // namespace

TEST_CASE("setp: every comparison in every type") {
  for (const Type& t : types())
    for (const Comparison& c : comparisons(t)) {
      const std::string signature = std::string("p=") + t.kind + t.kind;
      check(std::string("setp.") + c.name + "." + t.name + " %d, %a, %b;", signature, pairs(values_of(t), values_of(t)),
            [&](const auto& v) { return holds(c, t.value(v[0]), t.value(v[1])); });
    }
  for (const Comparison& c : {kOrdered[0], kOrdered[1]}) {
    check(std::string("setp.") + c.name + ".b16 %d, %a, %b;", "p=hh", pairs(integers(16), integers(16)),
          [&](const auto& v) { return holds(c, v[0], v[1]); });
    check(std::string("setp.") + c.name + ".b32 %d, %a, %b;", "p=rr", pairs(integers(32), integers(32)),
          [&](const auto& v) { return holds(c, v[0], v[1]); });
    check(std::string("setp.") + c.name + ".b64 %d, %a, %b;", "p=dd", pairs(integers(64), integers(64)),
          [&](const auto& v) { return holds(c, v[0], v[1]); });
  }
}

TEST_CASE("setp with a second predicate: p = cmp op c, q = !cmp op c") {
  const auto operands = triples(floats(), floats(), {0, 1});
  const auto lt = [](const auto& v) { return f32(v[0]) < f32(v[1]); };
  check("setp.lt.and.f32 %d|%e, %a, %b, %c;", "pp=rrp", operands, [&](const auto& v) { return lt(v) && v[2]; });
  check_second("setp.lt.and.f32 %d|%e, %a, %b, %c;", "pp=rrp", operands, [&](const auto& v) { return !lt(v) && v[2]; });
  check("setp.lt.or.f32 %d|%e, %a, %b, %c;", "pp=rrp", operands, [&](const auto& v) { return lt(v) || v[2]; });
  check_second("setp.lt.xor.f32 %d|%e, %a, %b, !%c;", "pp=rrp", operands,
               [&](const auto& v) { return !lt(v) != !v[2]; });
  check_second("setp.lt.f32 %d|%e, %a, %b;", "pp=rr", pairs(floats(), floats()), [&](const auto& v) { return !lt(v); });
  check("setp.lt.ftz.f32 %d, %a, %b;", "p=rr", pairs(floats(), floats()), [](const auto& v) {
    const auto flush = [](float x) { return std::fpclassify(x) == FP_SUBNORMAL ? 0.0f : x; };
    return flush(f32(v[0])) < flush(f32(v[1]));
  });
}

TEST_CASE("setp and set of packed halves: low and high") {
  for (const bool is_bf16 : {false, true}) {
    const std::string type = is_bf16 ? "bf16x2" : "f16x2";
    const auto value = [is_bf16](uint64_t x, int shift) {
      return half_value(static_cast<uint16_t>(x >> shift), is_bf16);
    };
    const auto operands = pairs(half_pairs(), half_pairs());
    check("setp.gt." + type + " %d|%e, %a, %b;", "pp=rr", operands,
          [&](const auto& v) { return value(v[0], 0) > value(v[1], 0); });
    check_second("setp.gt." + type + " %d|%e, %a, %b;", "pp=rr", operands,
                 [&](const auto& v) { return value(v[0], 16) > value(v[1], 16); });
    const uint64_t one = is_bf16 ? 0x3f80 : 0x3c00;
    check("set.le." + type + "." + type + " %d, %a, %b;", "r=rr", operands, [&](const auto& v) {
      return (value(v[0], 0) <= value(v[1], 0) ? one : 0) | (value(v[0], 16) <= value(v[1], 16) ? one << 16 : 0);
    });
    check("set.neu.u32." + type + " %d, %a, %b;", "r=rr", operands, [&](const auto& v) {
      const auto holds_at = [&](int shift) { return !(value(v[0], shift) == value(v[1], shift)); };
      return (holds_at(0) ? 0xffff : 0) | (holds_at(16) ? 0xffff0000 : 0);
    });
  }
}

TEST_CASE("set: all ones or 1.0") {
  for (const Type& t : types()) {
    const std::string sources(2, t.kind);
    const auto operands = pairs(values_of(t), values_of(t));
    for (const Comparison& c : comparisons(t)) {
      const auto at = [&](const auto& v) { return holds(c, t.value(v[0]), t.value(v[1])); };
      check(std::string("set.") + c.name + ".u32." + t.name + " %d, %a, %b;", "r=" + sources, operands,
            [&](const auto& v) { return at(v) ? 0xffffffff : 0; });
      check(std::string("set.") + c.name + ".f32." + t.name + " %d, %a, %b;", "r=" + sources, operands,
            [&](const auto& v) { return at(v) ? 0x3f800000 : 0; });
    }
  }
  check("set.lt.and.s32.s32 %d, %a, %b, %c;", "r=rrp", triples(integers(32), integers(32), {0, 1}),
        [](const auto& v) { return static_cast<int32_t>(v[0]) < static_cast<int32_t>(v[1]) && v[2] ? 0xffffffff : 0; });
}

TEST_CASE("selp, slct") {
  for (const char* type : {"b16", "u16", "s16"})
    check(std::string("selp.") + type + " %d, %a, %b, %c;", "h=hhp", triples(integers(16), integers(16), {0, 1}),
          [](const auto& v) { return v[2] ? v[0] : v[1]; });
  for (const char* type : {"b32", "u32", "s32", "f32"})
    check(std::string("selp.") + type + " %d, %a, %b, %c;", "r=rrp", triples(integers(32), integers(32), {0, 1}),
          [](const auto& v) { return v[2] ? v[0] : v[1]; });
  for (const char* type : {"b64", "u64", "s64", "f64"})
    check(std::string("selp.") + type + " %d, %a, %b, !%c;", "d=ddp", triples(integers(64), integers(64), {0, 1}),
          [](const auto& v) { return v[2] ? v[1] : v[0]; });
  check("slct.u32.s32 %d, %a, %b, %c;", "r=rrr", triples(integers(32), integers(32), integers(32)),
        [](const auto& v) { return static_cast<int32_t>(v[2]) >= 0 ? v[0] : v[1]; });
  check("slct.b64.f32 %d, %a, %b, %c;", "d=ddr", triples(integers(64), integers(64), floats()),
        [](const auto& v) { return f32(v[2]) >= 0 ? v[0] : v[1]; });
  check("slct.ftz.f32.f32 %d, %a, %b, %c;", "r=rrr", triples(floats(), floats(), floats()),
        [](const auto& v) { return f32(v[2]) >= 0 || std::fpclassify(f32(v[2])) == FP_SUBNORMAL ? v[0] : v[1]; });
  check("slct.s64.s32 %d, %a, %b, %c;", "d=ddr", triples(integers(64), integers(64), integers(32)),
        [](const auto& v) { return static_cast<int32_t>(v[2]) >= 0 ? v[0] : v[1]; });
  check("slct.f32.f32 %d, %a, %b, %c;", "r=rrr", triples(floats(), floats(), floats()),
        [](const auto& v) { return f32(v[2]) >= 0 ? v[0] : v[1]; });
  check("slct.ftz.f64.f32 %d, %a, %b, %c;", "d=ddr", triples(doubles(), doubles(), floats()),
        [](const auto& v) { return f32(v[2]) >= 0 || std::fpclassify(f32(v[2])) == FP_SUBNORMAL ? v[0] : v[1]; });
}

TEST_CASE("testp") {
  const auto check_test = [](const std::string& test, auto holds_for) {
    check("testp." + test + ".f32 %d, %a;", "p=r", singles(floats()),
          [&](const auto& v) { return holds_for(f32(v[0])); });
    check("testp." + test + ".f64 %d, %a;", "p=d", singles(doubles()),
          [&](const auto& v) { return holds_for(f64(v[0])); });
  };
  check_test("finite", [](auto x) { return x - x == 0; });
  check_test("infinite", [](auto x) { return x == x && x - x != 0; });
  check_test("number", [](auto x) { return x == x; });
  check_test("notanumber", [](auto x) { return x != x; });
  check_test("normal", [](auto x) { return x - x == 0 && std::fabs(x) >= std::numeric_limits<decltype(x)>::min(); });
  check_test("subnormal", [](auto x) { return std::fabs(x) < std::numeric_limits<decltype(x)>::min(); });
}

TEST_CASE("mov, packing and unpacking") {
  check("mov.b32 %d, %a;", "r=r", singles(integers(32)), [](const auto& v) { return v[0]; });
  check("mov.u64 %d, %a;", "d=d", singles(integers(64)), [](const auto& v) { return v[0]; });
  check("mov.b16 %d, %a;", "h=h", singles(integers(16)), [](const auto& v) { return v[0]; });
  check("mov.f32 %d, 0f3FC00000;", "r=r", singles({0}), [](const auto&) { return bits(1.5f); });
  check("mov.f64 %d, 0d3FF8000000000000;", "d=r", singles({0}), [](const auto&) { return bits(1.5); });
  check("mov.u32 %d, -3;", "r=r", singles({0}), [](const auto&) { return uint64_t{0xfffffffd}; });
  const auto words = pairs(integers(32), integers(32));
  check("mov.b64 %d, {%a, %b};", "d=rr", words, [](const auto& v) { return v[0] | v[1] << 32; });
  check("mov.b64 {%d, %e}, %a;", "rr=d", singles(integers(64)), [](const auto& v) { return v[0]; });
  check_second("mov.b64 {%d, %e}, %a;", "rr=d", singles(integers(64)), [](const auto& v) { return v[0] >> 32; });
  check("mov.b64 {_, %d}, %a;", "r=d", singles(integers(64)), [](const auto& v) { return v[0] >> 32; });
  check("mov.b32 %d, {%a, %b};", "r=hh", pairs(integers(16), integers(16)),
        [](const auto& v) { return v[0] | v[1] << 16; });
  check_second("mov.b32 {%d, %e}, %a;", "hh=r", singles(integers(32)), [](const auto& v) { return v[0] >> 16; });
  check("mov.b64 %d, {%a, %b, %c, %f};", "d=hhhh", quadruples(integers(16), integers(16), integers(16), integers(16)),
        [](const auto& v) { return v[0] | v[1] << 16 | v[2] << 32 | v[3] << 48; });
  check("mov.b64 {_, _, %d, _}, %a;", "h=d", singles(integers(64)), [](const auto& v) { return v[0] >> 32; });
  const std::string wide = ".reg .b128 %z;\nmov.b128 %z, {%a, %b};\nmov.b128 {%d, %e}, %z;";
  check(wide, "dd=dd", pairs(integers(64), integers(64)), [](const auto& v) { return v[0]; });
  check_second(wide, "dd=dd", pairs(integers(64), integers(64)), [](const auto& v) { return v[1]; });
  const std::string copied = ".reg .b128 %y, %z;\nmov.b128 %y, {%a, %b};\nmov.b128 %z, %y;\nmov.b128 {%d, %e}, %z;";
  check(copied, "dd=dd", pairs(integers(64), integers(64)), [](const auto& v) { return v[0]; });
  check_second(copied, "dd=dd", pairs(integers(64), integers(64)), [](const auto& v) { return v[1]; });
  // Time goes on.
  check(".reg .b64 %z;\nmov.u64 %z, %clock64;\nmov.u64 %d, %clock64;\nsub.u64 %d, %d, %z;\nmin.u64 %d, %d, %a;", "d=d",
        singles({1}), [](const auto&) { return 1; });
}
