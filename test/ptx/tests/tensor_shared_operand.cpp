// wgmma's operands in shared memory, against CUTLASS's canonical layouts written out as nested strides.
#include <cstring>
#include <memory>
#include <vector>

#include "../machine/tensor/shared_operand.h"
#include "doctest.h"

using namespace foretoken::machine;

namespace {

constexpr uint32_t kSharedBytes = 1 << 17;
const uint32_t kSpans[] = {0, 32, 64, 128};

uint64_t encode(uint32_t start, uint32_t leading, uint32_t stride, uint32_t span) {
  uint64_t layout = span == 128 ? 1 : span == 64 ? 2 : span == 32 ? 3 : 0;
  return start / 16 | uint64_t{leading / 16} << 16 | uint64_t{stride / 16} << 32 | layout << 62;
}

// CuTe's Swizzle<B, 4, 3> on the address.
uint32_t swizzle(uint32_t address, uint32_t span) {
  uint32_t bits = span == 128 ? 3 : span == 64 ? 2 : span == 32 ? 1 : 0;
  for (uint32_t bit = 0; bit < bits; ++bit)
    if (address >> (7 + bit) & 1) address ^= 1u << (4 + bit);
  return address;
}

// mma_traits_sm90_gmma.hpp, in elements of `size` bytes: T of them in 16 bytes.
//   K-major:   ((8,m),(T,2)) : none ((1T,SBO),(1,LBO)), spans ((wT,SBO),(1,T))
//   MN-major:  none ((T,1,m),(8,k)) : ((1,T,SBO),(1T,LBO)), spans ((T,w,m),(8,k)) : ((1,T,LBO),(wT,SBO))
uint32_t element_address(const MatrixDescriptor& matrix, Major major, uint32_t size, uint32_t mn, uint32_t k) {
  uint32_t t = 16 / size, w = matrix.span / 16, offset;
  if (major == Major::k && matrix.span == 0)
    offset = mn % 8 * t * size + mn / 8 * matrix.stride + k % t * size + k / t * matrix.leading;
  else if (major == Major::k)
    offset = mn % 8 * w * t * size + mn / 8 * matrix.stride + k * size;
  else if (matrix.span == 0)
    offset = mn % t * size + mn / t * matrix.stride + k % 8 * t * size + k / 8 * matrix.leading;
  else
    offset = mn % (t * w) * size + mn / (t * w) * matrix.leading + k % 8 * w * t * size + k / 8 * matrix.stride;
  return swizzle(matrix.start + offset, matrix.span);
}

float expected_value(Element element, const uint8_t* at) {
  uint32_t word = 0;
  std::memcpy(&word, at, element_bytes(element));
  return element == Element::kTf32 ? tf32_to_float(word) : half_word_to_float(element, static_cast<uint16_t>(word));
}

// vcvtph2ps makes signalling NaNs quiet, the plain loop does not: both are NaNs.
bool same_value(float x, float y) { return x != x ? y != y : std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y); }

struct Layout {
  uint32_t leading, stride;
};
// Dense tiles of 128 rows or columns, and padded ones.
Layout layout_for(Major major, uint32_t span, uint32_t padding) {
  if (major == Major::k)
    return span == 0 ? Layout{2048 + padding, 128 + padding} : Layout{16, 8 * span + 1024 * padding};
  return span == 0 ? Layout{2048 + padding, 128} : Layout{16 * span + 1024 * padding, 8 * span};
}

}  // namespace

TEST_CASE("matrix descriptor: the fields of PTX's table") {
  auto matrix = decode_matrix_descriptor(0x4000'0040'0001'0000ull | 0x3fff | 5ull << 49);
  CHECK(matrix.start == 0x3fff0);
  CHECK(matrix.leading == 16);
  CHECK(matrix.stride == 1024);
  CHECK(matrix.base_offset == 5);
  CHECK(matrix.span == 128);
  CHECK(decode_matrix_descriptor(2ull << 62).span == 64);
  CHECK(decode_matrix_descriptor(3ull << 62).span == 32);
  CHECK(decode_matrix_descriptor(0).span == 0);
}

TEST_CASE("wgmma: operands of every layout and element, from the start of a tile and from a later k") {
  std::vector<uint8_t> shared(kSharedBytes);
  uint32_t state = 1;
  for (uint8_t& byte : shared) byte = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  auto a = std::make_unique<SpreadA>();
  auto b = std::make_unique<SpreadB>();
  for (Element element : {Element::kBf16, Element::kF16, Element::kTf32})
    for (Major major : {Major::k, Major::mn}) {
      if (element == Element::kTf32 && major == Major::mn) continue;  // there is no such instruction
      for (uint32_t span : kSpans)
        for (uint32_t padding : {0u, 16u})
          for (uint32_t k_step : {0u, 1u}) {
            CAPTURE(static_cast<int>(element));
            CAPTURE(static_cast<int>(major));
            CAPTURE(span);
            CAPTURE(padding);
            // CUTLASS moves along k of a swizzled K-major tile by adding 32 bytes to the start.
            uint32_t start = 4096 + (major == Major::k && span >= 64 ? 32 * k_step : 1024 * k_step);
            Layout layout = layout_for(major, span, padding);
            SharedOperand operand{element, major,
                                  decode_matrix_descriptor(encode(start, layout.leading, layout.stride, span)), 64};
            const uint32_t size = element_bytes(element);
            bool same = true;
            for (uint32_t first_row : {0u, 48u}) {
              spread_shared_a(operand, shared.data(), first_row, *a);
              for (uint32_t row = 0; row < 16; ++row)
                for (uint32_t k = 0; k < operand.depth(); ++k) {
                  uint32_t address = element_address(operand.matrix, major, size, first_row + row, k);
                  REQUIRE(address < kSharedBytes);
                  float expected = expected_value(element, &shared[address]);
                  for (int copy = 0; copy < 4; ++copy)
                    same = same && same_value(a->values[k][4 * row + copy], expected);
                }
            }
            CHECK(same);
            operand.extent = 72;
            spread_shared_b(operand, shared.data(), *b);
            for (uint32_t column = 0; column < operand.extent; ++column)
              for (uint32_t k = 0; k < operand.depth(); ++k) {
                uint32_t address = element_address(operand.matrix, major, size, column, k);
                float found = b->tiles[column / 8][k][spread_column(static_cast<int>(column % 8))];
                float expected = expected_value(element, &shared[address]);
                same = same && same_value(found, expected);
              }
            CHECK(same);
          }
    }
}

TEST_CASE("wgmma: negating an operand changes every sign") {
  auto a = std::make_unique<SpreadA>();
  for (int k = 0; k < kProductDepth; ++k)
    for (int i = 0; i < 64; ++i) a->values[k][i] = static_cast<float>(k * 64 + i);
  negate(*a);
  CHECK(a->values[0][1] == -1);
  CHECK(a->values[15][63] == -1023);
}
