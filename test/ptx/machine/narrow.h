// The narrow float formats: f16, bf16, and (for conversions) tf32, e4m3, e5m2, bit by bit.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "floating.h"
#include "rounding.h"

namespace foretoken::machine {

// Round to nearest even in plain integer code, which vectorises; NaN becomes 0x7fff as on the hardware.
struct F16 {
  static float to_float(uint16_t half) {
    const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t special = (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return std::bit_cast<float>(scaled | special | static_cast<uint32_t>(half & 0x8000) << 16);
  }
  static uint16_t from_float(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffff;
    // Adding 0.5 leaves the subnormal's units in the low mantissa bits, rounded by the addition.
    const uint32_t subnormal =
        std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
    const uint32_t normal = (magnitude + 0xc8000fffu + (magnitude >> 13 & 1)) >> 13;
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x47800000u ? 0x7c00u : result;
    result |= bits >> 16 & 0x8000;
    return static_cast<uint16_t>(magnitude > 0x7f800000u ? 0x7fffu : result);
  }
};

struct Bf16 {
  static float to_float(uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); }
  static uint16_t from_float(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000u ? 0x7fffu : rounded);
  }
};

// Subnormal halves count as zeros of their sign, on the way in and out.
struct FlushedF16 {
  static uint16_t flush_half(uint16_t h) { return static_cast<uint16_t>((h & 0x7c00) == 0 ? h & 0x8000 : h); }
  static float to_float(uint16_t half) { return F16::to_float(flush_half(half)); }
  static uint16_t from_float(float x) { return flush_half(F16::from_float(x)); }
};

// A float format by its numbers, for any rounding.
struct Format {
  int mantissa;       // explicit bits
  int exponent;       // bits
  bool has_infinity;  // e4m3 has none: its largest exponent holds numbers, all ones is NaN
  uint64_t nan;       // canonical
  constexpr int bias() const { return (1 << (exponent - 1)) - 1; }
};
constexpr Format kF64{52, 11, true, 0x7ff8000000000000}, kF32{23, 8, true, kCanonicalNan}, kF16{10, 5, true, 0x7fff},
    kBf16{7, 8, true, 0x7fff}, kE4m3{3, 4, false, 0x7f}, kE5m2{2, 5, true, 0x7f}, kTf32{10, 8, true, 0x3ffff};

enum class Nearest : uint8_t { even, away };

// x rounded to the format, encoded; long double holds every 64-bit integer and every double exactly. Overflow gives
// infinity or, where the rounding leads away from it, and always with saturate_finite, the largest finite number.
uint64_t encode(long double x, const Format& format, Rounding rounding, Nearest ties = Nearest::even,
                bool saturate_finite = false);
double decode_float(uint64_t bits, const Format& format);

}  // namespace foretoken::machine
