// D += A·B of one warp: 16 rows, 8-column tiles, the arithmetic under mma and wgmma alike.
//
// Both instructions keep an accumulator tile in four registers a lane: register q of lane l holds row
// l / 4 + 8 (q / 2), column 2 (l % 4) + q % 2. The operands are spread out so that this layout is multiplied in place:
// A has each row's value once for each of the four lanes which need it, B its even columns before its odd ones.
#pragma once
#include <cstdint>

#include "element.h"

namespace foretoken::machine {

constexpr int kWarpLanes = 32;
constexpr int kProductRows = 16;
constexpr int kProductDepth = 16;  // the most k of one instruction
constexpr int kTileColumns = 8;
constexpr int kMaxTiles = 32;  // wgmma: N ≤ 256

struct SpreadA {
  alignas(64) float values[kProductDepth][4 * kProductRows];  // [k][4 row + copy]
};
using SpreadTile = float[kProductDepth][kTileColumns];  // [k][four even columns, four odd columns]
struct SpreadB {
  alignas(64) SpreadTile tiles[kMaxTiles];
};

// Where a column of a tile stands in SpreadTile.
constexpr int spread_column(int column) { return (column % 2) * 4 + column / 2; }

// The order and rounding of a tensor core's sums are unspecified, so there is a choice of two:
//   kSequential  k ascending, each exact product rounded once as it is added (fp32, to nearest)
//   kAligned     eight products and the accumulator aligned to the greatest of them, cut off one bit below its last
//                place, summed exactly and cut off to fp32: near what measurements found in the hardware
//                (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021)
enum class Accumulation { kSequential, kAligned };
constexpr int kAlignedProducts = 8;
constexpr int kAlignedBits = 24;  // kept below the leading bit of the greatest term: fp32's 23 and one more

// `registers`: 2·depth / (4·elements of a register) of A, half as many of B; each is 32 lanes.
using SpreadFragmentA = void (*)(Element element, int depth, const uint32_t* const* registers, SpreadA& a);
using SpreadFragmentB = void (*)(Element element, int depth, const uint32_t* const* registers, SpreadTile& b);
// Operands in memory come in chunks of 16 bytes. Along k: eight columns of B or sixteen rows of A, two chunks each.
using SpreadColumns = void (*)(Element element, const uint8_t* const (*chunks)[2], SpreadTile& b);
using SpreadRows = void (*)(Element element, const uint8_t* const (*chunks)[2], SpreadA& a);
// Across k, 16-bit elements: eight columns of B in each chunk, or sixteen rows of A in two, of one k.
using SpreadLineB = void (*)(Element element, const uint8_t* const* chunks, int tiles, int k, SpreadTile* b);
using SpreadLineA = void (*)(Element element, const uint8_t* const* chunks, int k, SpreadA& a);
// `accumulators`: four registers a tile, each 32 floats. NaN results are the hardware's 0x7fffffff.
using Multiply = void (*)(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators);

struct ProductFunctions {
  SpreadFragmentA spread_a;
  SpreadFragmentB spread_b;
  SpreadColumns spread_columns;
  SpreadRows spread_rows;
  SpreadLineB spread_line_b;
  SpreadLineA spread_line_a;
  Multiply multiply;
  Multiply multiply_aligned;
};

// The specification, and what this machine's vector units make of it: bit-identical.
extern const ProductFunctions kPlainProduct;
#if defined(__x86_64__)
extern const ProductFunctions kAvx2Product;
extern const ProductFunctions kAvx512Product;
#endif
// Where the vector units have no faster form of it.
void multiply_aligned(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators);

// The fastest of them here.
const ProductFunctions& product_functions();
inline Multiply multiply_function(Accumulation accumulation) {
  const ProductFunctions& functions = product_functions();
  return accumulation == Accumulation::kAligned ? functions.multiply_aligned : functions.multiply;
}

}  // namespace foretoken::machine
