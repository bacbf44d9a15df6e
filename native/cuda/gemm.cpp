// Which kernel takes a product, before wgmma: by dtype, by alignment, by shape.
#include "gemm.h"

#include "gemm_plain.h"
#include "gemm_sm80.h"

namespace foretoken::cuda {

enum class TileSize { narrow, small, large };  // 16×64, 64×64, 128×128

static constexpr int64_t tiles(int64_t m, int64_t n, int64_t side) {
  return (m + side - 1) / side * ((n + side - 1) / side);
}

// Every tile gives the same bits, so this is about time alone: as large a tile as leaves a block for most processors of
// an A100, because a 128×128 tile of 64×64 warps loads half as much per product as one of 64×64. Decoding reads the
// weight once, and 16 rows pad least. Reckoned, not measured. Also thought of: 128×256 in 8 warps (a third less traffic
// to L2, but 72 KB of stages leave one block on an 8.6 or 8.9), 256×64, and swapping the factors for few rows (the bits
// would hang on how a tensor core orders its inputs).
static constexpr TileSize choose_tile(Order order, int64_t m, int64_t n) {
  constexpr int64_t kProcessors = 108;
  if (order == Order::nt && m <= 16) return TileSize::narrow;
  return tiles(m, n, 128) * 4 >= kProcessors * 3 ? TileSize::large : TileSize::small;
}
static_assert(choose_tile(Order::nt, 1, 128256) == TileSize::narrow);
static_assert(choose_tile(Order::nt, 512, 512) == TileSize::small);
static_assert(choose_tile(Order::nt, 2048, 1024) == TileSize::large);

static void multiply_bf16(const Call& call, const Product& product) {
  TileSize tile = choose_tile(product.order, product.m, product.n);
  bool large = tile == TileSize::large;
  switch (product.order) {
    case Order::nt:
      return (tile == TileSize::narrow ? multiply_nt_16x64
              : large                  ? multiply_nt_128x128
                                       : multiply_nt_64x64)(call, product);
    case Order::nn: return (large ? multiply_nn_128x128 : multiply_nn_64x64)(call, product);
    case Order::tn: return (large ? multiply_tn_128x128 : multiply_tn_64x64)(call, product);
  }
}

static bool loads_by_16_bytes(const Operand& factor) {
  return reinterpret_cast<uintptr_t>(factor.data) % 16 == 0 && factor.stride % 8 == 0;
}

void multiply(const Call& call, const Product& product) {
  if (product.m == 0 || product.n == 0) return;
  if (product.a.dtype == DType::f32) return multiply_f32(call, product);
  if (product.k < 8 || !loads_by_16_bytes(product.a) || !loads_by_16_bytes(product.b))
    return multiply_bf16_plain(call, product);
  multiply_bf16(call, product);
}

}  // namespace foretoken::cuda
