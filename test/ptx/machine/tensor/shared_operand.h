// wgmma's operands in shared memory: matrix descriptors and the layouts they describe.
//
// A matrix is cut into chunks of 16 bytes: T = 16 / sizeof(element) elements along its contiguous dimension. With S
// chunks in a span of the swizzle (1, 2, 4, 8 for none, 32, 64, 128 bytes) a chunk lies at, in bytes from the start:
//   K-major   row r, chunk c:  r % 8 · 16 S + r / 8 · stride + c · (S = 1 ? leading : 16)
//   MN-major  k, chunk c:      k % 8 · 16 S + k / 8 · (S = 1 ? leading : stride)
//                              + c % S · 16 + c / S · (S = 1 ? stride : leading)
// and the swizzle then permutes by the absolute address. (PTX ISA, "Shared Memory Matrix Layout"; CUTLASS
// mma_traits_sm90_gmma.hpp, make_gmma_desc.)
#pragma once
#include <cstdint>

#include "product.h"

namespace foretoken::machine {

struct MatrixDescriptor {
  uint32_t start = 0, leading = 0, stride = 0;  // bytes
  uint32_t base_offset = 0;                     // patterns that do not start at a multiple of their size
  uint32_t span = 0;                            // bytes: 0 (no swizzle), 32, 64, 128
};
MatrixDescriptor decode_matrix_descriptor(uint64_t bits);

// Shared memory's swizzle: address bits 4 … 6 exclusive-or bits 7 … 9, as many of them as the span has.
constexpr uint32_t swizzled(uint32_t address, uint32_t span) {
  uint32_t chunks = span / 16;
  return chunks > 1 ? address ^ ((address >> 3) & ((chunks - 1) << 4)) : address;
}

enum class Major : uint8_t { k, mn };

// Where a chunk is: `line` is the row (K-major) or k (MN-major), `chunk` counts along the contiguous dimension.
uint32_t chunk_address(const MatrixDescriptor& matrix, Major major, uint32_t line, uint32_t chunk);

// An operand of one wgmma: `extent` rows or columns × 32 bytes of k.
struct SharedOperand {
  Element element = Element::kBf16;
  Major major = Major::k;
  MatrixDescriptor matrix;
  uint32_t extent = 0;
  uint32_t lines() const { return major == Major::k ? extent : 32 / element_bytes(element); }
  uint32_t chunks() const { return major == Major::k ? 2 : extent * element_bytes(element) / 16; }
  uint32_t depth() const { return 32 / element_bytes(element); }
};

// Bytes [begin, end) of a block's shared memory.
struct SharedRange {
  uint32_t begin = 0, end = 0;
  bool overlaps(const SharedRange& other) const { return begin < other.end && other.begin < end; }
};
SharedRange bounding_range(const SharedOperand& operand);
// Whether a chunk of the operand, not only its bounding range, reaches into the range.
bool reads_from(const SharedOperand& operand, const SharedRange& range);

// Reads the operand out of `shared`, whose first byte is address 0, all of it in bounds.
void spread_shared_a(const SharedOperand& operand, const uint8_t* shared, uint32_t first_row, SpreadA& a);
void spread_shared_b(const SharedOperand& operand, const uint8_t* shared, SpreadB& b);

// −A, for imm-scale-a and imm-scale-b.
void negate(SpreadA& a);

}  // namespace foretoken::machine
