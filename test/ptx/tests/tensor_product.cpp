// mma's arithmetic: fragment layouts against the manual's tables, the vector forms against the plain loops bit by bit.
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../machine/tensor/product.h"
#include "doctest.h"

using namespace foretoken::machine;

namespace {

uint32_t random_word(std::mt19937& generator, Element element) {
  std::normal_distribution<float> normal;
  if (element == Element::kTf32) return std::bit_cast<uint32_t>(normal(generator));
  auto half = [&] {
    float value = normal(generator);
    return element == Element::kF16 ? float_to_f16(value) : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  };
  uint32_t low = half();
  return low | static_cast<uint32_t>(half()) << 16;
}

// One warp's operands and accumulators, as an instruction finds them in registers.
struct Warp {
  Element element;
  int depth;
  std::vector<std::array<uint32_t, 32>> a, b;
  std::vector<std::array<float, 32>> d;

  Warp(Element element, int depth, int tiles, unsigned seed) : element(element), depth(depth), d(4 * tiles) {
    std::mt19937 generator(seed);
    int packed = 4 / element_bytes(element);
    a.resize(2 * depth / (4 * packed));
    b.resize(depth / (4 * packed));
    for (auto* operand : {&a, &b})
      for (auto& lanes : *operand)
        for (uint32_t& word : lanes) word = random_word(generator, element);
    for (auto& lanes : d)
      for (float& value : lanes) value = std::normal_distribution<float>()(generator);
  }

  void run(const ProductFunctions& functions, Multiply multiply) {
    std::vector<const uint32_t*> a_registers, b_registers;
    for (auto& lanes : a) a_registers.push_back(lanes.data());
    for (auto& lanes : b) b_registers.push_back(lanes.data());
    std::vector<float*> accumulators;
    for (auto& lanes : d) accumulators.push_back(lanes.data());
    SpreadA spread_a;
    std::vector<SpreadB> spread_b(1);
    functions.spread_a(element, depth, a_registers.data(), spread_a);
    for (size_t tile = 0; tile < d.size() / 4; ++tile)
      functions.spread_b(element, depth, b_registers.data(), spread_b[0].tiles[tile]);
    multiply(spread_a, spread_b[0].tiles, depth, static_cast<int>(d.size() / 4), accumulators.data());
  }

  // PTX ISA, "Matrix Fragments for mma.m16n8k16" and its neighbours, in the manual's words: group = lane >> 2,
  // thread = lane % 4, i the element of the fragment.
  double a_at(int row, int k) const {
    for (int lane = 0; lane < 32; ++lane)
      for (size_t i = 0; i < a.size() * 4 / element_bytes(element); ++i) {
        int group = lane >> 2, thread = lane % 4, at = static_cast<int>(i), fragment_row, fragment_k;
        if (element == Element::kTf32) {
          fragment_row = at % 2 == 0 ? group : group + 8;
          fragment_k = at < 2 ? thread : thread + 4;
        } else {
          fragment_row = at % 4 < 2 ? group : group + 8;
          fragment_k = thread * 2 + (at & 1) + (at < 4 ? 0 : 8);
        }
        if (fragment_row == row && fragment_k == k) return value(a, lane, at);
      }
    return NAN;
  }
  double b_at(int k, int column) const {
    for (int lane = 0; lane < 32; ++lane)
      for (size_t i = 0; i < b.size() * 4 / element_bytes(element); ++i) {
        int group = lane >> 2, thread = lane % 4, at = static_cast<int>(i);
        int fragment_k = element == Element::kTf32 ? thread + 4 * at : thread * 2 + (at & 1) + (at < 2 ? 0 : 8);
        if (fragment_k == k && group == column) return value(b, lane, at);
      }
    return NAN;
  }
  double value(const std::vector<std::array<uint32_t, 32>>& registers, int lane, int i) const {
    if (element == Element::kTf32) return std::bit_cast<float>(registers[i][lane] & 0xffffe000u);
    uint16_t bits = static_cast<uint16_t>(registers[i / 2][lane] >> (16 * (i % 2)));
    return half_word_to_float(element, bits);
  }
};

struct Shape {
  Element element;
  int depth;
};
// Every fragment shape the machine knows: four, two and one registers of B's kind.
const Shape kShapes[] = {{Element::kBf16, 16}, {Element::kBf16, 8}, {Element::kF16, 16},
                         {Element::kF16, 8},   {Element::kTf32, 8}, {Element::kTf32, 4}};

std::vector<std::pair<std::string, const ProductFunctions*>> vector_forms() {
  std::vector<std::pair<std::string, const ProductFunctions*>> forms;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) forms.push_back({"avx2", &kAvx2Product});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
    forms.push_back({"avx512", &kAvx512Product});
#endif
  return forms;
}

bool same_bits(const Warp& x, const Warp& y) {
  for (size_t r = 0; r < x.d.size(); ++r)
    for (int lane = 0; lane < 32; ++lane)
      if (std::bit_cast<uint32_t>(x.d[r][lane]) != std::bit_cast<uint32_t>(y.d[r][lane])) return false;
  return true;
}

}  // namespace

TEST_CASE("mma: the plain product multiplies the matrices that the manual's fragment tables describe") {
  for (Shape shape : kShapes) {
    CAPTURE(static_cast<int>(shape.element));
    CAPTURE(shape.depth);
    for (Multiply multiply : {kPlainProduct.multiply, kPlainProduct.multiply_aligned}) {
      Warp before(shape.element, shape.depth, 1, 7), after = before;
      after.run(kPlainProduct, multiply);
      for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
          int row = (lane >> 2) + (i < 2 ? 0 : 8), column = (lane % 4) * 2 + (i & 1);
          double expected = before.d[i][lane], scale = std::fabs(expected);
          for (int k = 0; k < shape.depth; ++k) {
            double product = before.a_at(row, k) * before.b_at(k, column);
            expected += product;
            scale += std::fabs(product);
          }
          // depth roundings or truncations, each at most one unit in the last place of a partial sum
          CHECK(std::fabs(after.d[i][lane] - expected) <= scale * shape.depth * 0x1p-23);
        }
    }
  }
}

TEST_CASE("mma: the vector forms are the plain loops, bit for bit") {
  for (auto& [name, functions] : vector_forms())
    for (Shape shape : kShapes)
      for (int tiles : {1, 3}) {
        CAPTURE(name);
        CAPTURE(static_cast<int>(shape.element));
        CAPTURE(shape.depth);
        Warp operands(shape.element, shape.depth, tiles, 11);
        for (Multiply ProductFunctions::* multiply :
             {&ProductFunctions::multiply, &ProductFunctions::multiply_aligned}) {
          Warp plain = operands, fast = operands;
          plain.run(kPlainProduct, kPlainProduct.*multiply);
          fast.run(*functions, functions->*multiply);
          CHECK(same_bits(plain, fast));
        }
      }
}

TEST_CASE("wgmma: the vector forms spread operands of memory as the plain loops do") {
  std::mt19937 generator(17);
  alignas(16) uint8_t bytes[kMaxTiles][16];
  for (Element element : {Element::kBf16, Element::kF16, Element::kTf32}) {
    for (auto& chunk : bytes)
      for (int i = 0; i < 16; i += 4) {
        const uint32_t word = random_word(generator, element);
        std::memcpy(chunk + i, &word, 4);
      }
    const uint8_t* pairs[kProductRows][2];
    const uint8_t* line[kMaxTiles];
    for (int i = 0; i < kMaxTiles; ++i) line[i] = pairs[i / 2][i % 2] = bytes[i];
    auto spread = [&](const ProductFunctions& functions) {
      auto operands = std::make_unique<std::pair<SpreadA, SpreadB>>();
      functions.spread_rows(element, pairs, operands->first);
      functions.spread_columns(element, pairs, operands->second.tiles[0]);
      if (element == Element::kTf32) return operands;
      functions.spread_line_a(element, line, 3, operands->first);
      functions.spread_line_b(element, line, 31, 5, operands->second.tiles + 1);
      return operands;
    };
    const auto plain = spread(kPlainProduct);
    for (auto& [name, functions] : vector_forms()) {
      CAPTURE(name);
      CAPTURE(static_cast<int>(element));
      const auto fast = spread(*functions);
      CHECK(std::memcmp(&plain->first, &fast->first, sizeof(SpreadA)) == 0);
      CHECK(std::memcmp(&plain->second, &fast->second, sizeof(SpreadB)) == 0);
    }
  }
}

TEST_CASE("mma: every 16-bit pattern widens alike in every form, NaN results are canonical") {
  for (auto& [name, functions] : vector_forms())
    for (Element element : {Element::kBf16, Element::kF16}) {
      CAPTURE(name);
      bool same = true, canonical = true;
      for (uint32_t bits = 0; bits < 65536; bits += 64) {
        Warp plain(element, 8, 1, 13);
        for (int lane = 0; lane < 32; ++lane) {
          plain.a[0][lane] = (bits + 2 * lane) | (bits + 2 * lane + 1) << 16;
          plain.b[0][lane] = lane % 4 == (lane / 4) % 4 ? 0x00003c00u : 0;  // one value in each column: no sums
          plain.d[0][lane] = plain.d[1][lane] = 0;
        }
        Warp fast = plain, aligned = plain, fast_aligned = plain;
        plain.run(kPlainProduct, kPlainProduct.multiply);
        fast.run(*functions, functions->multiply);
        aligned.run(kPlainProduct, kPlainProduct.multiply_aligned);
        fast_aligned.run(*functions, functions->multiply_aligned);
        same = same && same_bits(plain, fast) && same_bits(aligned, fast_aligned);
        for (auto& lanes : fast.d)
          for (float value : lanes)
            canonical = canonical && (!std::isnan(value) || std::bit_cast<uint32_t>(value) == 0x7fffffffu);
      }
      CHECK(same);
      CHECK(canonical);
    }
}

TEST_CASE("mma: sequential sums round at each product, aligned ones cut off what lies below the greatest term") {
  // 1 + 8 products of 2⁻²⁴: to nearest even each is lost; aligned they add up exactly.
  auto sum_of = [](float start, float product, Multiply multiply) {
    SpreadA a{};
    SpreadB b{};
    for (int k = 0; k < 8; ++k) {
      a.values[k][0] = product;
      b.tiles[0][k][0] = 1;
    }
    float registers[4][32] = {{start}};
    float* accumulators[] = {registers[0], registers[1], registers[2], registers[3]};
    multiply(a, b.tiles, 8, 1, accumulators);
    return registers[0][0];
  };
  CHECK(sum_of(1, 0x1p-24f, kPlainProduct.multiply) == 1.0f);
  CHECK(sum_of(1, 0x1p-24f, kPlainProduct.multiply_aligned) == 1.0f + 0x1p-21f);
  // Below the alignment all eight are cut off, of either sign; to nearest they count once they reach half a place.
  CHECK(sum_of(1, 0x1.8p-24f, kPlainProduct.multiply) == 1.0f + 0x1p-20f);
  CHECK(sum_of(1, 0x1.8p-24f, kPlainProduct.multiply_aligned) == 1.0f + 0x1p-21f);
  CHECK(sum_of(1, 0x1.fp-25f, kPlainProduct.multiply_aligned) == 1.0f);
  CHECK(sum_of(-1, 0x1.fp-25f, kPlainProduct.multiply_aligned) == -1.0f);
  CHECK(sum_of(INFINITY, 1, kPlainProduct.multiply_aligned) == INFINITY);
  CHECK(std::bit_cast<uint32_t>(sum_of(INFINITY, -INFINITY, kPlainProduct.multiply_aligned)) == 0x7fffffffu);
}

TEST_CASE("f16: rounding to nearest even agrees with the neighbours, all 65,536 values return") {
  bool returned = true, nearest = true;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    float value = f16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    returned = returned && float_to_f16(value) == bits;
    if ((bits & 0x7fff) >= 0x7bff) continue;
    float next = f16_to_float(static_cast<uint16_t>(bits + 1)), middle = (value + next) / 2;
    uint16_t even = static_cast<uint16_t>(bits & 1 ? bits + 1 : bits);
    nearest = nearest && float_to_f16(middle) == even && float_to_f16(std::nextafterf(middle, value)) == bits &&
              float_to_f16(std::nextafterf(middle, next)) == bits + 1;
  }
  CHECK(returned);
  CHECK(nearest);
  CHECK(float_to_f16(65519.99f) == 0x7bff);
  CHECK(float_to_f16(65520.0f) == 0x7c00);
  CHECK(float_to_f16(-1e30f) == 0xfc00);
  CHECK(float_to_f16(NAN) == 0x7fff);
}
