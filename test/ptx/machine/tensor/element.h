// The element types of the tensor cores, widened to float: the widening is exact for all of them.
#pragma once
#include <bit>
#include <cstdint>

namespace foretoken::machine {

enum class Element : uint8_t { kBf16, kF16, kTf32 };

constexpr int element_bytes(Element element) { return element == Element::kTf32 ? 4 : 2; }

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

inline float f16_to_float(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
  if (magnitude >= 0x0400) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  float value = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -value : value;
}

// Round to nearest even; NaN becomes the hardware's 0x7fff.
inline uint16_t float_to_f16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {                       // below 2⁻¹⁴: adding ½ leaves multiples of 2⁻²⁴ in the low bits
    float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  uint32_t rounded = magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1);
  return sign | static_cast<uint16_t>(rounded >> 13);
}

// The tensor cores drop the 13 low bits of a tf32 operand.
inline float tf32_to_float(uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000u); }

inline float half_word_to_float(Element element, uint16_t bits) {
  return element == Element::kBf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace foretoken::machine
