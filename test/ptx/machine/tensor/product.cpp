#include "product.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace foretoken::machine {
namespace {

constexpr float kCanonicalNan = std::bit_cast<float>(0x7fffffffu);

// The element h of a register that holds one tf32 or two 16-bit elements.
float element_of(Element element, uint32_t word, int h) {
  if (element == Element::kTf32) return tf32_to_float(word);
  return half_word_to_float(element, static_cast<uint16_t>(word >> (16 * h)));
}

void spread_fragment_a(Element element, int depth, const uint32_t* const* registers, SpreadA& a) {
  int packed = 4 / element_bytes(element);
  for (int r = 0; r < 2 * depth / (4 * packed); ++r)
    for (int lane = 0; lane < kWarpLanes; ++lane)
      for (int h = 0; h < packed; ++h) {
        int row = lane / 4 + 8 * (r % 2), k = packed * (4 * (r / 2) + lane % 4) + h;
        std::fill_n(&a.values[k][4 * row], 4, element_of(element, registers[r][lane], h));
      }
}

void spread_fragment_b(Element element, int depth, const uint32_t* const* registers, SpreadTile& b) {
  int packed = 4 / element_bytes(element);
  for (int r = 0; r < depth / (4 * packed); ++r)
    for (int lane = 0; lane < kWarpLanes; ++lane)
      for (int h = 0; h < packed; ++h)
        b[packed * (4 * r + lane % 4) + h][spread_column(lane / 4)] = element_of(element, registers[r][lane], h);
}

// Element i of 16-byte chunks that follow each other.
float chunk_element(Element element, const uint8_t* const* chunks, int i) {
  const int size = element_bytes(element), packed = 16 / size;
  uint32_t word = 0;
  std::memcpy(&word, chunks[i / packed] + i % packed * size, static_cast<size_t>(size));
  return element_of(element, word, 0);
}

void spread_columns(Element element, const uint8_t* const (*chunks)[2], SpreadTile& b) {
  for (int column = 0; column < kTileColumns; ++column)
    for (int k = 0; k < 32 / element_bytes(element); ++k)
      b[k][spread_column(column)] = chunk_element(element, chunks[column], k);
}

void spread_rows(Element element, const uint8_t* const (*chunks)[2], SpreadA& a) {
  for (int row = 0; row < kProductRows; ++row)
    for (int k = 0; k < 32 / element_bytes(element); ++k)
      std::fill_n(&a.values[k][4 * row], 4, chunk_element(element, chunks[row], k));
}

void spread_line_b(Element element, const uint8_t* const* chunks, int tiles, int k, SpreadTile* b) {
  for (int column = 0; column < kTileColumns * tiles; ++column)
    b[column / kTileColumns][k][spread_column(column % kTileColumns)] = chunk_element(element, chunks, column);
}

void spread_line_a(Element element, const uint8_t* const* chunks, int k, SpreadA& a) {
  for (int row = 0; row < kProductRows; ++row)
    std::fill_n(&a.values[k][4 * row], 4, chunk_element(element, chunks, row));
}

void multiply_sequential(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators) {
  for (int tile = 0; tile < tiles; ++tile)
    for (int q = 0; q < 4; ++q)
      for (int lane = 0; lane < kWarpLanes; ++lane) {
        float sum = accumulators[4 * tile + q][lane];
        for (int k = 0; k < depth; ++k)
          sum = std::fma(a.values[k][32 * (q / 2) + lane], b[tile][k][4 * (q % 2) + lane % 4], sum);
        accumulators[4 * tile + q][lane] = std::isnan(sum) ? kCanonicalNan : sum;
      }
}

// sum + Σ products, as kAligned says. A term of 2⁰ units is one bit below the last place of the greatest.
float add_aligned(float sum, const float* products, int count) {
  float greatest = std::fabs(sum), plain = sum;
  for (int i = 0; i < count; ++i) {
    greatest = std::max(greatest, std::fabs(products[i]));
    plain += products[i];
  }
  if (!std::isfinite(plain)) return plain;
  int exponent = greatest < 0x1p-126f ? -126 : std::ilogb(greatest);
  double units_of_one = std::ldexp(1.0, kAlignedBits - exponent);
  auto units_of = [&](float term) { return static_cast<int32_t>(term * units_of_one); };
  int32_t units = units_of(sum);
  for (int i = 0; i < count; ++i) units += units_of(products[i]);
  double exact = units / units_of_one;
  float nearest = static_cast<float>(exact);
  return std::fabs(static_cast<double>(nearest)) > std::fabs(exact) ? std::nextafterf(nearest, 0.0f) : nearest;
}

const ProductFunctions& fastest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return kAvx512Product;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2Product;
#endif
  return kPlainProduct;
}

}  // namespace

void multiply_aligned(const SpreadA& a, const SpreadTile* b, int depth, int tiles, float* const* accumulators) {
  for (int tile = 0; tile < tiles; ++tile)
    for (int q = 0; q < 4; ++q)
      for (int lane = 0; lane < kWarpLanes; ++lane) {
        float sum = accumulators[4 * tile + q][lane];
        for (int first = 0; first < depth; first += kAlignedProducts) {
          int count = std::min(kAlignedProducts, depth - first);
          float products[kAlignedProducts];
          for (int i = 0; i < count; ++i)
            products[i] = a.values[first + i][32 * (q / 2) + lane] * b[tile][first + i][4 * (q % 2) + lane % 4];
          sum = add_aligned(sum, products, count);
        }
        accumulators[4 * tile + q][lane] = std::isnan(sum) ? kCanonicalNan : sum;
      }
}

const ProductFunctions kPlainProduct = {.spread_a = spread_fragment_a,
                                        .spread_b = spread_fragment_b,
                                        .spread_columns = spread_columns,
                                        .spread_rows = spread_rows,
                                        .spread_line_b = spread_line_b,
                                        .spread_line_a = spread_line_a,
                                        .multiply = multiply_sequential,
                                        .multiply_aligned = multiply_aligned};

const ProductFunctions& product_functions() {
  static const ProductFunctions functions = fastest();
  return functions;
}

}  // namespace foretoken::machine
