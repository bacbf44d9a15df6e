// The products of the CUDA backend, from the host's side:
//   d(m,n) = alpha·row_scale(m)·Σ_k a(m,k)·b(k,n) + bias(n) + c(m,n), summed in f32, rounded once to d's dtype.
// Every sum runs over k in one chain whose order depends on K alone, so the bits of d(m,n) depend neither on M nor on
// N.
#pragma once
#include "../core/call.h"
#include "../core/view.h"

namespace foretoken::cuda {

// How the factors lie in memory, row-major each: n as in the formula, t the other way round.
enum class Order : uint8_t {
  nt,  // a (M,K), b (N,K): rows times a weight
  nn,  // a (M,K), b (K,N): the gradient of the rows
  tn,  // a (K,M), b (K,N): the gradient of the weight
};

// A row-major matrix, or a vector where one is asked for. data == nullptr: not given.
struct Operand {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t stride = 0;  // elements between rows
};

// Lengths are below 2³¹; strides may be larger. Any length, stride and alignment is right; a and b are read fast when
// both start on 16 bytes and their strides are multiples of 8 elements. A row of a or b whose stride exceeds its length
// may be read up to the next multiple of 8 elements; what lies there reaches no result.
struct Product {
  Order order = Order::nt;
  int64_t m = 0, n = 0, k = 0;
  Operand a, b;                      // of one dtype: f32 (multiplied and added as f32) or bf16
  Operand d;                         // (M,N) f32 or bf16
  Operand c = {};                    // (M,N) f32 or bf16; may be d; absent: 0
  Operand bias = {};                 // (N) f32 or bf16; absent: 0
  const float* row_scale = nullptr;  // (M) on the device; absent: 1
  const float* alpha = nullptr;      // (1) on the device; absent: 1
};

// Enqueues the product on call.stream; needs no workspace. A launch that fails is reported (failure.h).
// FFMA for f32, mma.sync for bf16: any device from 8.0 on.
void multiply(const Call& call, const Product& product);
// wgmma where TMA can reach all operands and the dtypes are usual ones (gemm_sm90.cpp), else the above, whose last bits
// may differ: devices that are exactly 9.0.
void multiply_sm90(const Call& call, const Product& product);

}  // namespace foretoken::cuda
