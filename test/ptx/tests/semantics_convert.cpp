// cvt: every pair of types, every rounding; all 65,536 values of the 16-bit floats.
#include <cfenv>
#include <cmath>
#include <random>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

struct Integer {
  const char* name;
  int bits;
  bool is_signed;
  char kind() const { return bits <= 16 ? 'h' : bits == 32 ? 'r' : 'd'; }
  __int128 value(uint64_t x) const {
    const int unused = 64 - bits;
    return is_signed ? __int128{static_cast<int64_t>(x << unused) >> unused} : __int128{x << unused >> unused};
  }
  __int128 least() const { return is_signed ? -(__int128{1} << (bits - 1)) : 0; }
  __int128 most() const { return (__int128{1} << (is_signed ? bits - 1 : bits)) - 1; }
};
constexpr Integer kIntegers[] = {{"u8", 8, false},   {"s8", 8, true},   {"u16", 16, false}, {"s16", 16, true},
                                 {"u32", 32, false}, {"s32", 32, true}, {"u64", 64, false}, {"s64", 64, true}};

constexpr HostRounding kWhole[] = {
    {"rni", FE_TONEAREST}, {"rzi", FE_TOWARDZERO}, {"rmi", FE_DOWNWARD}, {"rpi", FE_UPWARD}};

template <class T>
T opaque(T x) {
  volatile T y = x;
  return y;
}

std::vector<uint64_t> all_halves() {
  std::vector<uint64_t> values;
  for (uint64_t k = 0; k < 65536; ++k) values.push_back(k);
  return values;
}

// Floats near the values and the midpoints of a 16-bit format, and everything else.
std::vector<uint64_t> floats_near_halves(bool is_bf16) {
  std::vector<uint64_t> values = floats();
  std::mt19937 random(11);
  for (int k = 0; k < 4000; ++k) {
    const auto half = static_cast<uint16_t>(random());
    const float value = static_cast<float>(half_value(half, is_bf16)),
                next = static_cast<float>(half_value(half + 1, is_bf16));
    const uint64_t middle = bits(static_cast<float>((double{value} + next) / 2));
    for (uint64_t delta : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
      values.push_back(static_cast<uint32_t>(bits(value) + delta));
      values.push_back(static_cast<uint32_t>(middle + delta));
    }
    values.push_back(random());
  }
  return values;
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// NaN gives 0, with 64 bits on either side the least number (or the lone top bit).
uint64_t to_integer(long double x, bool from_f64, const Integer& to) {
  if (x != x) return from_f64 || to.bits == 64 ? static_cast<uint64_t>(to.value(uint64_t{1} << (to.bits - 1))) : 0;
  if (x < static_cast<long double>(to.least())) return static_cast<uint64_t>(to.least());
  if (x > static_cast<long double>(to.most())) return static_cast<uint64_t>(to.most());
  return static_cast<uint64_t>(static_cast<__int128>(x));
}

long double whole(long double x, int mode) {
  const WithRounding rounding(mode);
  return opaque(std::nearbyint(opaque(x)));
}

}  // namespace

TEST_CASE("cvt between integers: extends, cuts, saturates") {
  for (const Integer& to : kIntegers)
    for (const Integer& from : kIntegers) {
      const std::string types = std::string(to.name) + "." + from.name + " %d, %a;";
      const std::string signature = std::string(1, to.kind()) + "=" + from.kind();
      const auto values = singles(integers(from.bits));
      // A result narrower than its register is extended by its own sign.
      const auto extended = [&](__int128 x) { return static_cast<uint64_t>(to.value(static_cast<uint64_t>(x))); };
      check("cvt." + types, signature, values, [&](const auto& v) { return extended(from.value(v[0])); });
      check("cvt.sat." + types, signature, values,
            [&](const auto& v) { return extended(std::min(std::max(from.value(v[0]), to.least()), to.most())); });
    }
}

TEST_CASE("cvt from f32 and f64 to integers: four roundings, saturation, NaN") {
  for (const Integer& to : kIntegers)
    for (const HostRounding& rounding : kWhole) {
      const std::string prefix = std::string("cvt.") + rounding.suffix;
      const std::string to_kind(1, to.kind());
      check(prefix + "." + to.name + ".f32 %d, %a;", to_kind + "=r", singles(floats()),
            [&](const auto& v) { return to_integer(whole(f32(v[0]), rounding.mode), false, to); });
      check(prefix + ".ftz." + to.name + ".f32 %d, %a;", to_kind + "=r", singles(floats()),
            [&](const auto& v) { return to_integer(whole(flushed(f32(v[0])), rounding.mode), false, to); });
      check(prefix + "." + to.name + ".f64 %d, %a;", to_kind + "=d", singles(doubles()),
            [&](const auto& v) { return to_integer(whole(f64(v[0]), rounding.mode), true, to); });
      check(prefix + "." + to.name + ".f16 %d, %a;", to_kind + "=h", singles(halves()), [&](const auto& v) {
        return to_integer(whole(half_value(static_cast<uint16_t>(v[0]), false), rounding.mode), false, to);
      });
      check(prefix + "." + to.name + ".bf16 %d, %a;", to_kind + "=h", singles(halves()), [&](const auto& v) {
        return to_integer(whole(half_value(static_cast<uint16_t>(v[0]), true), rounding.mode), false, to);
      });
    }
}

TEST_CASE("cvt from integers to floats: four roundings") {
  for (const Integer& from : kIntegers)
    for (const HostRounding& rounding : kRoundings) {
      const std::string prefix = std::string("cvt.") + rounding.suffix + ".",
                        source = std::string(".") + from.name + " %d, %a;";
      const std::string kind(1, from.kind());
      const auto values = singles(integers(from.bits));
      const auto rounded = [&](const auto& v, auto zero) {
        const WithRounding scope(rounding.mode);
        const __int128 x = from.value(v[0]);
        // 64-bit conversions of the host round as its mode says.
        if (from.is_signed) return static_cast<decltype(zero)>(opaque(static_cast<int64_t>(x)));
        return static_cast<decltype(zero)>(opaque(static_cast<uint64_t>(x)));
      };
      check(prefix + "f32" + source, "r=" + kind, values,
            [&](const auto& v) { return bits(opaque(rounded(v, 0.0f))); });
      check(prefix + "f64" + source, "d=" + kind, values, [&](const auto& v) { return bits(opaque(rounded(v, 0.0))); });
      check(prefix + "f16" + source, "h=" + kind, values,
            // 2^40 is past the largest half: doubles below it are exact.
            [&](const auto& v) { return round_half(static_cast<double>(from.value(v[0])), false, rounding.mode); });
    }
}

TEST_CASE("cvt of all 65,536 f16 and bf16 values to f32 and back") {
  for (const bool is_bf16 : {false, true}) {
    const std::string type = is_bf16 ? "bf16" : "f16";
    check("cvt.f32." + type + " %d, %a;", "r=h", singles(all_halves()), [&](const auto& v) {
      return canonical(static_cast<float>(half_value(static_cast<uint16_t>(v[0]), is_bf16)));
    });
    check("cvt.f64." + type + " %d, %a;", "d=h", singles(all_halves()), [&](const auto& v) {
      const double x = half_value(static_cast<uint16_t>(v[0]), is_bf16);
      return x != x ? 0x7ff8000000000000 : bits(x);
    });
    check(".reg .b32 %z;\ncvt.f32." + type + " %z, %a;\ncvt.rn." + type + ".f32 %d, %z;", "h=h", singles(all_halves()),
          [&](const auto& v) {
            const double x = half_value(static_cast<uint16_t>(v[0]), is_bf16);
            return x != x ? 0x7fff : v[0];
          });
  }
}

TEST_CASE("cvt from f32 and f64 to f16 and bf16: four roundings, .sat, .relu") {
  for (const bool is_bf16 : {false, true}) {
    const std::string type = is_bf16 ? "bf16" : "f16";
    const auto values = singles(floats_near_halves(is_bf16));
    for (const HostRounding& rounding : kRoundings) {
      const std::string prefix = std::string("cvt.") + rounding.suffix;
      check(prefix + "." + type + ".f32 %d, %a;", "h=r", values,
            [&](const auto& v) { return round_half(f32(v[0]), is_bf16, rounding.mode); });
      check(prefix + "." + type + ".f64 %d, %a;", "h=d", singles(doubles()),
            [&](const auto& v) { return round_half(f64(v[0]), is_bf16, rounding.mode); });
      if (rounding.mode == FE_TONEAREST || rounding.mode == FE_TOWARDZERO)
        check(prefix + ".relu." + type + ".f32 %d, %a;", "h=r", values, [&](const auto& v) {
          const float x = f32(v[0]);
          return round_half(x <= 0 ? 0 : x, is_bf16, rounding.mode);
        });
    }
  }
  check("cvt.rn.sat.f16.f32 %d, %a;", "h=r", singles(floats()), [](const auto& v) {
    const float x = f32(v[0]);
    return round_half(x != x || x <= 0 ? 0 : x > 1 ? 1 : x, false, FE_TONEAREST);
  });
}

TEST_CASE("cvt to packed pairs: the first source is the upper half") {
  for (const bool is_bf16 : {false, true}) {
    const std::string type = is_bf16 ? "bf16x2" : "f16x2";
    const auto values = floats_near_halves(is_bf16);
    const auto operands = triples(values, values, values, 20000);
    for (const HostRounding& rounding : {kRoundings[0], kRoundings[1]}) {
      const std::string prefix = std::string("cvt.") + rounding.suffix;
      check(prefix + "." + type + ".f32 %d, %a, %b;", "r=rr", operands, [&](const auto& v) {
        return round_half(f32(v[1]), is_bf16, rounding.mode) | uint64_t{round_half(f32(v[0]), is_bf16, rounding.mode)}
                                                                   << 16;
      });
      check(prefix + ".relu." + type + ".f32 %d, %a, %b;", "r=rr", operands, [&](const auto& v) {
        const auto relu = [&](uint64_t x) { return round_half(f32(x) <= 0 ? 0 : f32(x), is_bf16, rounding.mode); };
        return relu(v[1]) | uint64_t{relu(v[0])} << 16;
      });
    }
  }
}

TEST_CASE("cvt between f32 and f64, and to whole numbers") {
  check("cvt.f64.f32 %d, %a;", "d=r", singles(floats()),
        [](const auto& v) { return bits(static_cast<double>(f32(v[0]))); });
  for (const HostRounding& rounding : kRoundings) {
    const auto narrowed = [&](const auto& v) {
      const WithRounding scope(rounding.mode);
      return opaque(static_cast<float>(opaque(f64(v[0]))));
    };
    const std::string prefix = std::string("cvt.") + rounding.suffix;
    check(prefix + ".f32.f64 %d, %a;", "r=d", singles(doubles()),
          [&](const auto& v) { return canonical(narrowed(v)); });
    check(prefix + ".ftz.f32.f64 %d, %a;", "r=d", singles(doubles()),
          [&](const auto& v) { return canonical(flushed(narrowed(v))); });
    check(prefix + ".sat.f32.f64 %d, %a;", "r=d", singles(doubles()), [&](const auto& v) {
      const float x = narrowed(v);
      return bits(x != x || x <= 0 ? 0.0f : x > 1 ? 1.0f : x);
    });
  }
  for (const HostRounding& rounding : kWhole) {
    const std::string prefix = std::string("cvt.") + rounding.suffix;
    check(prefix + ".f32.f32 %d, %a;", "r=r", singles(floats()),
          [&](const auto& v) { return canonical(static_cast<float>(whole(f32(v[0]), rounding.mode))); });
    check(prefix + ".ftz.f32.f32 %d, %a;", "r=r", singles(floats()),
          [&](const auto& v) { return canonical(static_cast<float>(whole(flushed(f32(v[0])), rounding.mode))); });
    check(prefix + ".f64.f64 %d, %a;", "d=d", singles(doubles()),
          [&](const auto& v) { return bits(static_cast<double>(whole(f64(v[0]), rounding.mode))); });
    check(prefix + ".f16.f16 %d, %a;", "h=h", singles(all_halves()), [&](const auto& v) {
      return round_half(static_cast<double>(whole(half_value(static_cast<uint16_t>(v[0]), false), rounding.mode)),
                        false, FE_TONEAREST);
    });
  }
  check("cvt.sat.f32.f32 %d, %a;", "r=r", singles(floats()), [](const auto& v) {
    const float x = f32(v[0]);
    return bits(x != x || x <= 0 ? 0.0f : x > 1 ? 1.0f : x);
  });
}

TEST_CASE("cvt.rna.tf32: ten bits of mantissa, ties away") {
  check("cvt.rna.tf32.f32 %d, %a;", "r=r", singles(floats_near_halves(false)), [](const auto& v) {
    const float x = f32(v[0]);
    if (x != x) return uint64_t{0x7fffffff};
    if (std::isinf(x)) return v[0];
    return (v[0] + 0x1000) & 0xffffe000;
  });
}

TEST_CASE("cvt to and from fp8: saturated, all 256 values back") {
  // e4m3: 4 bits of exponent, no infinity, 0x7f is NaN, the largest is 448. e5m2: the upper byte of an f16.
  const auto e4m3 = [](uint64_t x) {
    const int mantissa = x & 7, exponent = x >> 3 & 15;
    const double sign = x & 0x80 ? -1 : 1;
    if ((x & 0x7f) == 0x7f) return sign * std::nan("");
    return sign * (exponent ? std::ldexp(8 + mantissa, exponent - 10) : std::ldexp(mantissa, -9));
  };
  std::vector<uint64_t> all_pairs;
  for (uint64_t k = 0; k < 256; ++k) all_pairs.push_back(k | (255 - k) << 8);
  const auto as_halves = [](double low, double high) {
    return round_half(low, false, FE_TONEAREST) | uint64_t{round_half(high, false, FE_TONEAREST)} << 16;
  };
  check("cvt.rn.f16x2.e4m3x2 %d, %a;", "r=h", singles(all_pairs),
        [&](const auto& v) { return as_halves(e4m3(v[0] & 255), e4m3(v[0] >> 8)); });
  check("cvt.rn.f16x2.e5m2x2 %d, %a;", "r=h", singles(all_pairs), [&](const auto& v) {
    return as_halves(half_value(static_cast<uint16_t>(v[0] << 8), false),
                     half_value(static_cast<uint16_t>(v[0] & 0xff00), false));
  });
  // The nearest of the 256 by search; ties to the even pattern; beyond the largest, the largest.
  const auto nearest = [&](float x) -> uint64_t {
    if (x != x) return 0x7f;
    uint64_t best = 0;
    for (uint64_t k = 0; k < 0x7f; ++k) {
      const double distance = std::fabs(std::fabs(double{x}) - e4m3(k)),
                   least = std::fabs(std::fabs(double{x}) - e4m3(best));
      if (distance < least || (distance == least && k % 2 == 0)) best = k;
    }
    if (std::isinf(x)) best = 0x7e;
    return best | (std::signbit(x) ? 0x80 : 0);
  };
  std::vector<uint64_t> values = floats();
  std::mt19937 random(12);
  for (int k = 0; k < 2000; ++k)
    values.push_back(
        bits(static_cast<float>(std::ldexp(1 + random() % 64 / 64.0, static_cast<int>(random() % 22) - 12))));
  check("cvt.rn.satfinite.e4m3x2.f32 %d, %a, %b;", "h=rr", triples(values, values, values, 4000),
        [&](const auto& v) { return nearest(f32(v[1])) | nearest(f32(v[0])) << 8; });
}

TEST_CASE("cvt.pack.sat") {
  struct Pack {
    const char* name;
    int bits;
    bool is_signed;
  };
  for (const Pack& p : {Pack{"u16", 16, false}, Pack{"s16", 16, true}, Pack{"u8", 8, false}, Pack{"s8", 8, true},
                        Pack{"u4", 4, false}, Pack{"s2", 2, true}}) {
    const auto clamped = [&](uint64_t x) {
      const int64_t least = p.is_signed ? -(int64_t{1} << (p.bits - 1)) : 0,
                    most = (int64_t{1} << (p.is_signed ? p.bits - 1 : p.bits)) - 1;
      return static_cast<uint64_t>(std::min(std::max(int64_t{static_cast<int32_t>(x)}, least), most)) &
             ((uint64_t{1} << p.bits) - 1);
    };
    const bool has_rest = p.bits < 16;
    auto values = integers(32);
    for (uint64_t small : {100, 200, 127, 128, 32767, 32768, 65535})
      values.insert(values.end(), {small, 0 - small & 0xffffffff});
    check(std::string("cvt.pack.sat.") + p.name + ".s32" + (has_rest ? ".b32 %d, %a, %b, %c;" : " %d, %a, %b;"),
          has_rest ? "r=rrr" : "r=rr", triples(values, values, values), [&](const auto& v) {
            return clamped(v[1]) | clamped(v[0]) << p.bits | (has_rest ? v[2] << (2 * p.bits) : 0);
          });
  }
}
