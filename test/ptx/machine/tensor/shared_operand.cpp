#include "shared_operand.h"

#include <algorithm>

namespace foretoken::machine {
namespace {

uint32_t chunk_offset(const MatrixDescriptor& matrix, Major major, uint32_t line, uint32_t chunk) {
  const uint32_t chunks = std::max(matrix.span / 16, 1u);
  const uint32_t offset = line % 8 * 16 * chunks;
  if (major == Major::k) return offset + line / 8 * matrix.stride + chunk * (chunks == 1 ? matrix.leading : 16);
  return offset + line / 8 * (chunks == 1 ? matrix.leading : matrix.stride) + chunk % chunks * 16 +
         chunk / chunks * (chunks == 1 ? matrix.stride : matrix.leading);
}

}  // namespace

MatrixDescriptor decode_matrix_descriptor(uint64_t bits) {
  auto bytes = [&](int position) { return static_cast<uint32_t>(bits >> position & 0x3fff) * 16; };
  constexpr uint32_t kSpans[] = {0, 128, 64, 32};
  return {bytes(0), bytes(16), bytes(32), static_cast<uint32_t>(bits >> 49 & 7), kSpans[bits >> 62]};
}

uint32_t chunk_address(const MatrixDescriptor& matrix, Major major, uint32_t line, uint32_t chunk) {
  return swizzled(matrix.start + chunk_offset(matrix, major, line, chunk), matrix.span);
}

SharedRange bounding_range(const SharedOperand& operand) {
  const MatrixDescriptor& matrix = operand.matrix;
  const uint32_t line = operand.lines() - 1, chunk = operand.chunks() - 1;
  // Offsets grow with the line, and with the chunk but where a new span begins.
  const uint32_t end_of_span = std::min(chunk, std::max(matrix.span / 16, 1u) - 1);
  const uint32_t last = matrix.start + std::max(chunk_offset(matrix, operand.major, line, chunk),
                                                chunk_offset(matrix, operand.major, line, end_of_span));
  // The swizzle moves chunks within 128 bytes.
  return {matrix.start & ~127u, (last | 127u) + 1};
}

bool reads_from(const SharedOperand& operand, const SharedRange& range) {
  if (!bounding_range(operand).overlaps(range)) return false;
  for (uint32_t line = 0; line < operand.lines(); ++line)
    for (uint32_t chunk = 0; chunk < operand.chunks(); ++chunk) {
      const uint32_t address = chunk_address(operand.matrix, operand.major, line, chunk);
      if (SharedRange{address, address + 16}.overlaps(range)) return true;
    }
  return false;
}

void spread_shared_a(const SharedOperand& operand, const uint8_t* shared, uint32_t first_row, SpreadA& a) {
  const ProductFunctions& functions = product_functions();
  if (operand.major == Major::k) {
    const uint8_t* chunks[kProductRows][2];
    for (uint32_t row = 0; row < kProductRows; ++row)
      for (uint32_t chunk = 0; chunk < 2; ++chunk)
        chunks[row][chunk] = shared + chunk_address(operand.matrix, Major::k, first_row + row, chunk);
    return functions.spread_rows(operand.element, chunks, a);
  }
  for (uint32_t k = 0; k < operand.depth(); ++k) {
    const uint8_t* chunks[2];
    for (uint32_t chunk = 0; chunk < 2; ++chunk)
      chunks[chunk] = shared + chunk_address(operand.matrix, Major::mn, k, first_row / 8 + chunk);
    functions.spread_line_a(operand.element, chunks, static_cast<int>(k), a);
  }
}

void spread_shared_b(const SharedOperand& operand, const uint8_t* shared, SpreadB& b) {
  const ProductFunctions& functions = product_functions();
  const uint32_t tiles = operand.extent / kTileColumns;
  if (operand.major == Major::k) {
    for (uint32_t tile = 0; tile < tiles; ++tile) {
      const uint8_t* chunks[kTileColumns][2];
      for (uint32_t column = 0; column < kTileColumns; ++column)
        for (uint32_t chunk = 0; chunk < 2; ++chunk)
          chunks[column][chunk] = shared + chunk_address(operand.matrix, Major::k, kTileColumns * tile + column, chunk);
      functions.spread_columns(operand.element, chunks, b.tiles[tile]);
    }
    return;
  }
  for (uint32_t k = 0; k < operand.depth(); ++k) {
    const uint8_t* chunks[kMaxTiles];
    for (uint32_t tile = 0; tile < tiles; ++tile)
      chunks[tile] = shared + chunk_address(operand.matrix, Major::mn, k, tile);
    functions.spread_line_b(operand.element, chunks, static_cast<int>(tiles), static_cast<int>(k), b.tiles);
  }
}

void negate(SpreadA& a) {
  for (auto& row : a.values)
    for (float& value : row) value = -value;
}

}  // namespace foretoken::machine
