// Integer arithmetic: every type, corner values, against 128-bit arithmetic.
#include <algorithm>
#include <bit>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

using Wide = __int128;

struct IntegerType {
  const char* name;
  int bits;
  bool is_signed;
  char kind() const { return bits == 16 ? 'h' : bits == 32 ? 'r' : 'd'; }
  std::string signature(int sources) const {
    return std::string(1, kind()) + "=" + std::string(static_cast<size_t>(sources), kind());
  }
  Wide value(uint64_t x) const {
    const uint64_t unused = 64 - static_cast<uint64_t>(bits);
    return is_signed ? Wide{static_cast<int64_t>(x << unused) >> unused} : Wide{x << unused >> unused};
  }
  Wide least() const { return is_signed ? -(Wide{1} << (bits - 1)) : 0; }
  Wide most() const { return (Wide{1} << (is_signed ? bits - 1 : bits)) - 1; }
};

constexpr IntegerType kTypes[] = {{"u16", 16, false}, {"s16", 16, true},  {"u32", 32, false},
                                  {"s32", 32, true},  {"u64", 64, false}, {"s64", 64, true}};
constexpr IntegerType kS32 = {"s32", 32, true};

using Binary = std::function<Wide(const IntegerType&, Wide, Wide)>;
using Ternary = std::function<Wide(const IntegerType&, Wide, Wide, Wide)>;

void check_binary(const std::string& opcode, const IntegerType& t, const Binary& reference) {
  check(opcode + "." + t.name + " %d, %a, %b;", t.signature(2), pairs(integers(t.bits), integers(t.bits)),
        [&](const auto& v) { return static_cast<uint64_t>(reference(t, t.value(v[0]), t.value(v[1]))); });
}

void check_ternary(const std::string& opcode, const IntegerType& t, const Ternary& reference) {
  const auto values = integers(t.bits);
  check(
      opcode + "." + t.name + " %d, %a, %b, %c;", t.signature(3), triples(values, values, values),
      [&](const auto& v) { return static_cast<uint64_t>(reference(t, t.value(v[0]), t.value(v[1]), t.value(v[2]))); });
}

Wide saturate32(Wide x) { return std::clamp(x, kS32.least(), kS32.most()); }

// The high half of a product of two 64-bit values needs more than 128 bits for unsigned operands only in sign.
Wide high_half(const IntegerType& t, Wide a, Wide b) {
  if (t.bits < 64) return (a * b) >> t.bits;
  if (t.is_signed) return (a * b) >> 64;
  return static_cast<Wide>(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) >> 64);
}

}  // namespace

TEST_CASE("add, sub, mul.lo wrap") {
  for (const IntegerType& t : kTypes) {
    check_binary("add", t, [](auto&, Wide a, Wide b) { return a + b; });
    check_binary("sub", t, [](auto&, Wide a, Wide b) { return a - b; });
    check_binary("mul.lo", t, [](auto&, Wide a, Wide b) {
      return static_cast<Wide>(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b));
    });
  }
}

TEST_CASE("add.sat, sub.sat clamp") {
  check_binary("add.sat", kS32, [](auto&, Wide a, Wide b) { return saturate32(a + b); });
  check_binary("sub.sat", kS32, [](auto&, Wide a, Wide b) { return saturate32(a - b); });
}

TEST_CASE("add, min and max of packed 16-bit integers") {
  for (const bool is_signed : {false, true}) {
    const std::string type = is_signed ? "s16x2" : "u16x2";
    const IntegerType half{"", 16, is_signed};
    const auto each = [&](const std::vector<uint64_t>& v, auto op) {
      return (static_cast<uint64_t>(op(half.value(v[0]), half.value(v[1]))) & 0xffff) |
             (static_cast<uint64_t>(op(half.value(v[0] >> 16), half.value(v[1] >> 16))) & 0xffff) << 16;
    };
    const auto operands = pairs(integers(32), integers(32));
    check("add." + type + " %d, %a, %b;", "r=rr", operands,
          [&](const auto& v) { return each(v, [](Wide a, Wide b) { return a + b; }); });
    check("min." + type + " %d, %a, %b;", "r=rr", operands,
          [&](const auto& v) { return each(v, [](Wide a, Wide b) { return std::min(a, b); }); });
    check("max." + type + " %d, %a, %b;", "r=rr", operands,
          [&](const auto& v) { return each(v, [](Wide a, Wide b) { return std::max(a, b); }); });
  }
  const IntegerType half{"", 16, true};
  for (const bool least : {false, true})
    check(std::string(least ? "min" : "max") + ".relu.s16x2 %d, %a, %b;", "r=rr", pairs(integers(32), integers(32)),
          [&](const auto& v) {
            const auto one = [&](int shift) {
              const Wide a = half.value(v[0] >> shift), b = half.value(v[1] >> shift);
              return static_cast<uint64_t>(std::max<Wide>(0, least ? std::min(a, b) : std::max(a, b))) & 0xffff;
            };
            return one(0) | one(16) << 16;
          });
}

TEST_CASE("mul.hi, mad.lo, mad.hi") {
  for (const IntegerType& t : kTypes) {
    check_binary("mul.hi", t, [](auto& type, Wide a, Wide b) { return high_half(type, a, b); });
    check_ternary("mad.lo", t, [](auto&, Wide a, Wide b, Wide c) {
      return static_cast<Wide>(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) +
                               static_cast<unsigned __int128>(c));
    });
    check_ternary("mad.hi", t, [](auto& type, Wide a, Wide b, Wide c) { return high_half(type, a, b) + c; });
  }
  check_ternary("mad.hi.sat", kS32,
                [](auto& type, Wide a, Wide b, Wide c) { return saturate32(high_half(type, a, b) + c); });
}

TEST_CASE("mul.wide, mad.wide: twice the width") {
  for (const IntegerType& t : kTypes) {
    if (t.bits == 64) continue;
    const std::string wide(1, t.bits == 16 ? 'r' : 'd'), narrow(2, t.kind());
    const IntegerType twice{"", 2 * t.bits, t.is_signed};
    const auto values = integers(t.bits);
    check(std::string("mul.wide.") + t.name + " %d, %a, %b;", wide + "=" + narrow, pairs(values, values),
          [&](const auto& v) { return static_cast<uint64_t>(t.value(v[0]) * t.value(v[1])); });
    check(std::string("mad.wide.") + t.name + " %d, %a, %b, %c;", wide + "=" + narrow + wide,
          triples(values, values, integers(2 * t.bits)),
          [&](const auto& v) { return static_cast<uint64_t>(t.value(v[0]) * t.value(v[1]) + twice.value(v[2])); });
  }
}

TEST_CASE("mul24, mad24: 24-bit factors, 48-bit product") {
  for (const IntegerType& t : {kTypes[2], kTypes[3]}) {
    const IntegerType factor{"", 24, t.is_signed};
    const auto product = [factor](Wide a, Wide b) {
      return factor.value(static_cast<uint64_t>(a) & 0xffffff) * factor.value(static_cast<uint64_t>(b) & 0xffffff);
    };
    check_binary("mul24.lo", t, [&](auto&, Wide a, Wide b) { return product(a, b); });
    check_binary("mul24.hi", t, [&](auto&, Wide a, Wide b) { return product(a, b) >> 16; });
    check_ternary("mad24.lo", t, [&](auto&, Wide a, Wide b, Wide c) { return product(a, b) + c; });
    check_ternary("mad24.hi", t, [&](auto& type, Wide a, Wide b, Wide c) {
      return type.value(static_cast<uint64_t>(product(a, b) >> 16) & 0xffffffff) + c;
    });
  }
  const IntegerType factor{"", 24, true};
  check_ternary("mad24.hi.sat", kS32, [&](auto& type, Wide a, Wide b, Wide c) {
    const Wide product =
        factor.value(static_cast<uint64_t>(a) & 0xffffff) * factor.value(static_cast<uint64_t>(b) & 0xffffff);
    return saturate32(type.value(static_cast<uint64_t>(product >> 16) & 0xffffffff) + c);
  });
}

TEST_CASE("div and rem: also by zero, and the least by -1") {
  for (const IntegerType& t : kTypes) {
    check_binary("div", t, [](auto&, Wide a, Wide b) { return b == 0 ? Wide{-1} : a / b; });
    check_binary("rem", t, [](auto&, Wide a, Wide b) { return b == 0 ? a : a % b; });
  }
}

TEST_CASE("min, max, abs, neg, sad") {
  for (const IntegerType& t : kTypes) {
    check_binary("min", t, [](auto&, Wide a, Wide b) { return std::min(a, b); });
    check_binary("max", t, [](auto&, Wide a, Wide b) { return std::max(a, b); });
    check_ternary("sad", t, [](auto&, Wide a, Wide b, Wide c) { return c + (a < b ? b - a : a - b); });
    if (!t.is_signed) continue;
    const auto values = singles(integers(t.bits));
    check(std::string("abs.") + t.name + " %d, %a;", t.signature(1), values,
          [&](const auto& v) { return static_cast<uint64_t>(t.value(v[0]) < 0 ? -t.value(v[0]) : t.value(v[0])); });
    check(std::string("neg.") + t.name + " %d, %a;", t.signature(1), values,
          [&](const auto& v) { return static_cast<uint64_t>(-t.value(v[0])); });
  }
  check_binary("min.relu", kS32, [](auto&, Wide a, Wide b) { return std::max<Wide>(0, std::min(a, b)); });
  check_binary("max.relu", kS32, [](auto&, Wide a, Wide b) { return std::max<Wide>(0, std::max(a, b)); });
}

TEST_CASE("dp4a, dp2a: every signedness") {
  for (const char* a_type : {"u32", "s32"})
    for (const char* b_type : {"u32", "s32"}) {
      const IntegerType a8{"", 8, a_type[0] == 's'}, b8{"", 8, b_type[0] == 's'}, a16{"", 16, a_type[0] == 's'};
      const std::string types = std::string(a_type) + "." + b_type;
      const auto values = integers(32);
      check("dp4a." + types + " %d, %a, %b, %c;", "r=rrr", triples(values, values, values), [&](const auto& v) {
        Wide sum = static_cast<Wide>(v[2]);
        for (int k = 0; k < 32; k += 8) sum += a8.value(v[0] >> k & 0xff) * b8.value(v[1] >> k & 0xff);
        return static_cast<uint64_t>(sum);
      });
      for (const int shift : {0, 16})
        check(std::string("dp2a.") + (shift ? "hi." : "lo.") + types + " %d, %a, %b, %c;", "r=rrr",
              triples(values, values, values), [&](const auto& v) {
                return static_cast<uint64_t>(static_cast<Wide>(v[2]) +
                                             a16.value(v[0] & 0xffff) * b8.value(v[1] >> shift & 0xff) +
                                             a16.value(v[0] >> 16 & 0xffff) * b8.value(v[1] >> (shift + 8) & 0xff));
              });
    }
}

TEST_CASE("carry chains: add.cc, addc, sub.cc, subc, mad.cc, madc") {
  // 128-bit sums and differences from two 64-bit halves; 64-bit ones from two of 32.
  const auto values = integers(64);
  const auto operands = quadruples(values, values, values, values);
  const auto joined = [](uint64_t low, uint64_t high) { return static_cast<unsigned __int128>(high) << 64 | low; };
  const auto check_high = [&](const std::string& text, auto op) {
    check(text, "dd=dddd", operands,
          [&](const auto& v) { return static_cast<uint64_t>(op(joined(v[0], v[1]), joined(v[2], v[3]))); });
    check_second(text, "dd=dddd", operands, [&](const auto& v) {
      return static_cast<uint64_t>(op(joined(v[0], v[1]), joined(v[2], v[3])) >> 64);
    });
  };
  check_high("add.cc.u64 %d, %a, %c;\naddc.u64 %e, %b, %f;", [](auto a, auto b) { return a + b; });
  check_high("sub.cc.u64 %d, %a, %c;\nsubc.u64 %e, %b, %f;", [](auto a, auto b) { return a - b; });
  const auto narrow = integers(32);
  const auto words = quadruples(narrow, narrow, narrow, narrow);
  const auto check_words = [&](const std::string& text, auto op) {
    check(text, "rr=rrrr", words, [&](const auto& v) { return op(v); });
    check_second(text, "rr=rrrr", words, [&](const auto& v) { return op(v) >> 32; });
  };
  check_words("add.cc.s32 %d, %a, %c;\naddc.s32 %e, %b, %f;",
              [](const auto& v) { return (v[0] | v[1] << 32) + (v[2] | v[3] << 32); });
  check_words("sub.cc.s32 %d, %a, %c;\nsubc.s32 %e, %b, %f;",
              [](const auto& v) { return (v[0] | v[1] << 32) - (v[2] | v[3] << 32); });
  // a · b + {c, f} in 64 bits.
  check_words("mad.lo.cc.u32 %d, %a, %b, %c;\nmadc.hi.u32 %e, %a, %b, %f;",
              [](const auto& v) { return v[0] * v[1] + (v[2] | v[3] << 32); });
  check_words("mad.lo.cc.s32 %d, %a, %b, %c;\nmadc.hi.s32 %e, %a, %b, %f;", [](const auto& v) {
    const int64_t product = int64_t{static_cast<int32_t>(v[0])} * static_cast<int32_t>(v[1]);
    return static_cast<uint64_t>(product) + (v[2] | v[3] << 32);
  });
  check_high("mad.lo.cc.u64 %d, %a, %c, %b;\nmadc.hi.u64 %e, %a, %c, %f;", [](auto a, auto b) {
    return static_cast<unsigned __int128>(static_cast<uint64_t>(a)) * static_cast<uint64_t>(b) +
           (b >> 64 << 64 | a >> 64);
  });
  check_high("mad.lo.cc.s64 %d, %a, %c, %b;\nmadc.hi.s64 %e, %a, %c, %f;", [](auto a, auto b) {
    const auto word = [](auto x) { return static_cast<__int128>(static_cast<int64_t>(static_cast<uint64_t>(x))); };
    return static_cast<unsigned __int128>(word(a) * word(b)) + (b >> 64 << 64 | a >> 64);
  });
  // A carry through the middle of three words: addc.cc takes one and makes one.
  check(".reg .b32 %z;\nadd.cc.u32 %z, %a, %b;\naddc.cc.u32 %z, %c, %f;\naddc.u32 %d, 0, 0;", "r=rrrr", words,
        [](const auto& v) { return (v[2] + v[3] + ((v[0] + v[1]) >> 32)) >> 32; });
  check(".reg .b32 %z;\nsub.cc.u32 %z, %a, %b;\nsubc.cc.u32 %z, %c, %f;\nsubc.u32 %d, 0, 0;", "r=rrrr", words,
        [](const auto& v) { return v[2] < v[3] + (v[0] < v[1]) ? 0xffffffffu : 0u; });
}
