// Which product goes to wgmma, and to which kernel. The choice hangs on dtypes, strides and N, and on M only between
// kernels of equal bits; a view that starts off 16 bytes goes to mma.sync, whose sums may differ in their last bits.
#include "gemm_sm90.h"

namespace foretoken::cuda {

// Whether TMA can reach it.
static bool reachable(const Operand& operand) {
  return reinterpret_cast<uintptr_t>(operand.data) % 16 == 0 &&
         operand.stride * bytes_per_element(operand.dtype) % 16 == 0;
}

// The epilogues that are compiled: bias for nt, row_scale for nn; c in bf16 for nt, else in d's dtype.
static bool has_epilogue(const Product& product) {
  DType c = product.order == Order::nt ? DType::bf16 : product.d.dtype;
  if (product.c.data && product.c.dtype != c) return false;
  switch (product.order) {
    case Order::nt: return !product.row_scale && (!product.bias.data || product.bias.dtype == DType::bf16);
    case Order::nn: return !product.bias.data;
    case Order::tn: return !product.row_scale && !product.bias.data && product.d.dtype == DType::f32;
  }
  return false;
}

static bool runs_on_sm90(const Product& product) {
  return product.a.dtype == DType::bf16 && product.m > 0 && product.n > 0 && product.k > 0 && has_epilogue(product) &&
         reachable(product.a) && reachable(product.b) && reachable(product.d) &&
         (!product.c.data || reachable(product.c));
}

// 128×256 tiles keep the tensor cores busiest, where there are enough of them for half of an H100's processors; few
// rows read the weight once, which 64×64 tiles spread over more processors. Reckoned, not measured.
static constexpr bool takes_large_tiles(int64_t m, int64_t n) {
  constexpr int64_t kProcessors = 132;
  return m > 64 && (m + 127) / 128 * ((n + 255) / 256) * 2 >= kProcessors;
}
static_assert(takes_large_tiles(8192, 4096));
static_assert(!takes_large_tiles(64, 128256));

void multiply_sm90(const Call& call, const Product& product) {
  using namespace sm90;
  if (!runs_on_sm90(product)) return multiply(call, product);
  bool f32 = product.d.dtype == DType::f32;
  switch (product.order) {
    case Order::nt:
      if (f32) return multiply_nt_f32_64x128(call, product);
      return (takes_large_tiles(product.m, product.n) ? multiply_nt_bf16_128x256 : multiply_nt_bf16_64x64)(call,
                                                                                                           product);
    case Order::nn: return (f32 ? multiply_nn_f32_128x128 : multiply_nn_bf16_128x256)(call, product);
    case Order::tn: return multiply_tn_f32_64x256(call, product);
  }
}

}  // namespace foretoken::cuda
