// CUtensorMap as this GPU knows it: what cuTensorMapEncodeTiled writes and the tensor copies read.
#pragma once
#include <cstdint>

namespace foretoken::machine {

constexpr int kTensorMapBytes = 128;
constexpr int kMaxTensorRank = 5;
constexpr uint64_t kTensorMapMagic = 0x70616d726f736e74;  // "tnsormap": nothing but the encoder writes it

// The values of CUtensorMapDataType.
enum class TensorElement : uint8_t { u8, u16, u32, s32, u64, s64, f16, f32, f64, bf16, f32_ftz, tf32, tf32_ftz };

constexpr int tensor_element_bytes(TensorElement element) {
  switch (element) {
    case TensorElement::u8: return 1;
    case TensorElement::u16:
    case TensorElement::f16:
    case TensorElement::bf16: return 2;
    case TensorElement::u64:
    case TensorElement::s64:
    case TensorElement::f64: return 8;
    default: return 4;
  }
}

// The values of CUtensorMapSwizzle.
enum class TensorSwizzle : uint8_t { none, bytes32, bytes64, bytes128 };

// Bytes of the span that a swizzle permutes; a box's rows are that long. 0 for none.
constexpr int swizzle_span(TensorSwizzle swizzle) {
  return swizzle == TensorSwizzle::none ? 0 : 16 << static_cast<int>(swizzle);
}

// Dimension 0 is the contiguous one. Checked by the encoder as the driver's manual says; interleave none.
struct TensorMap {
  uint64_t magic;                           // kTensorMapMagic
  uint64_t address;                         // global, a multiple of 16
  uint64_t dimensions[kMaxTensorRank];      // elements; 1 behind the rank
  uint64_t strides[kMaxTensorRank - 1];     // bytes, of dimensions 1 … 4; multiples of 16
  uint16_t box[kMaxTensorRank];             // elements, at most 256; 1 behind the rank
  uint8_t element_strides[kMaxTensorRank];  // 1 … 8; 1 behind the rank
  uint8_t rank;                             // 1 … 5
  TensorElement element;
  TensorSwizzle swizzle;
  uint8_t fill_nan;  // CUtensorMapFloatOOBfill: 0 zeros
  uint8_t reserved[21];
};
static_assert(sizeof(TensorMap) == kTensorMapBytes);

}  // namespace foretoken::machine
