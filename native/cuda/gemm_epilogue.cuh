// What becomes of a finished sum, in every product kernel but those of sm_90a: the last few k, scale, bias, c,
// rounding.
#pragma once
#include "device.cuh"
#include "gemm.h"

namespace foretoken::cuda {

// The tensor cores take k in eights, as 16-byte loads do; the remaining K % 8 are added by FFMA after them, here and in
// every bf16 kernel, so that a kernel may be chosen by alignment without a bit changing.
constexpr int64_t kTensorStep = 8;

// The terms first ≤ k < last of Σ a(m,k)·b(k,n), from global memory.
struct Tail {
  const __nv_bfloat16 *a, *b;
  int64_t a_row, a_k, b_column, b_k;  // elements from one m, k, n, k to the next
  int first, last;
};

struct Epilogue {
  Tail tail = {};
  Operand d, c, bias;
  const float *row_scale = nullptr, *alpha = nullptr;
  bool vectors = false;  // whether four columns of d and c, the first a multiple of 4, can be moved at once
};

// Strides of the factors, whatever their order.
struct Strides {
  int64_t a_row, a_k, b_column, b_k;
};
static inline Strides strides_of(const Product& product) {
  int64_t a = product.a.stride, b = product.b.stride;
  bool a_along_k = product.order != Order::tn, b_along_k = product.order == Order::nt;
  return {a_along_k ? a : 1, a_along_k ? 1 : a, b_along_k ? b : 1, b_along_k ? 1 : b};
}

static inline bool movable_by_four(const Operand& operand) {
  int64_t bytes = 4 * bytes_per_element(operand.dtype);
  return reinterpret_cast<uintptr_t>(operand.data) % bytes == 0 && operand.stride % 4 == 0;
}

// tail_first: the first k that the kernel itself does not add.
static inline Epilogue epilogue_of(const Product& product, int64_t tail_first) {
  Strides strides = strides_of(product);
  Tail tail = {static_cast<const __nv_bfloat16*>(product.a.data),
               static_cast<const __nv_bfloat16*>(product.b.data),
               strides.a_row,
               strides.a_k,
               strides.b_column,
               strides.b_k,
               static_cast<int>(tail_first),
               static_cast<int>(product.k)};
  bool vectors = movable_by_four(product.d) && (!product.c.data || movable_by_four(product.c));
  return {tail, product.d, product.c, product.bias, product.row_scale, product.alpha, vectors};
}

// Element i of an operand that may be absent.
__device__ __forceinline__ float element_or(const Operand& operand, int64_t i, float otherwise) {
  if (!operand.data) return otherwise;
  if (operand.dtype == DType::bf16) return value_of(static_cast<const __nv_bfloat16*>(operand.data)[i]);
  return static_cast<const float*>(operand.data)[i];
}

__device__ __forceinline__ void store_element(const Operand& operand, int64_t i, float value) {
  if (operand.dtype == DType::bf16)
    store_value(static_cast<__nv_bfloat16*>(operand.data) + i, value);
  else
    static_cast<float*>(operand.data)[i] = value;
}

__device__ __forceinline__ float add_tail(const Tail& tail, int64_t row, int64_t column, float sum) {
#pragma unroll 1
  for (int k = tail.first; k < tail.last; k++)
    sum = __fmaf_rn(value_of(tail.a[row * tail.a_row + k * tail.a_k]),
                    value_of(tail.b[column * tail.b_column + k * tail.b_k]), sum);
  return sum;
}

// alpha·row_scale(row)
__device__ __forceinline__ float scale_of(const Epilogue& epilogue, int64_t row) {
  float alpha = epilogue.alpha ? *epilogue.alpha : 1;
  return epilogue.row_scale ? __fmul_rn(alpha, epilogue.row_scale[row]) : alpha;
}

// The one place that says how the parts of an element are put together.
__device__ __forceinline__ float combine(float scale, float sum, float bias, float c) {
  return __fadd_rn(__fmaf_rn(scale, sum, bias), c);
}

// d(row, column) from its sum over the k before the tail.
__device__ __forceinline__ void finish_element(const Epilogue& epilogue, int64_t row, int64_t column, float sum) {
  float c = element_or(epilogue.c, row * epilogue.c.stride + column, 0);
  float value = combine(scale_of(epilogue, row), add_tail(epilogue.tail, row, column, sum),
                        element_or(epilogue.bias, column, 0), c);
  store_element(epilogue.d, row * epilogue.d.stride + column, value);
}

}  // namespace foretoken::cuda
