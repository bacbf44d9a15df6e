// linear and its gradients as products, for whichever `multiply` a device takes. Formulas in ../cpu/generic/linear.cpp.
#pragma once
#include "../kernels.h"
#include "gemm.h"

namespace foretoken::cuda {

// dbias (+)= column sums of dy. dy (M,N) f32 or bf16, dbias (N) f32.
void sum_columns(const Call& call, const In& dy, const InOut& dbias, bool accumulate);

static inline Operand operand_of(const View& view) { return {view.data, view.dtype, last_dimension(view)}; }
static inline Operand vector_of(const View& view) { return {view.data, view.dtype, 0}; }

// y = x·weightᵀ + bias? + residual?
template <auto multiply>
void linear(const Call& call, In x, In weight, In bias, In residual, Out y) {
  Product product;
  product.order = Order::nt;
  product.m = row_count(x), product.n = last_dimension(y), product.k = last_dimension(x);
  product.a = operand_of(x);
  product.b = {weight.data, x.dtype, product.k};  // row-major or packed, which is the same here
  product.d = operand_of(y);
  product.c = operand_of(residual);
  product.bias = vector_of(bias);
  multiply(call, product);
}

// dx (+)= dy·weight
template <auto multiply>
void linear_backward_input(const Call& call, In dy, In weight, InOut dx, bool accumulate) {
  Product product;
  product.order = Order::nn;
  product.m = row_count(dy), product.n = last_dimension(dx), product.k = last_dimension(dy);
  product.a = operand_of(dy);
  product.b = {weight.data, dy.dtype, product.n};
  product.d = operand_of(dx);
  if (accumulate) product.c = product.d;
  multiply(call, product);
}

// dweight (+)= dyᵀ·x, dbias? (+)= column sums of dy
template <auto multiply>
void linear_backward_weight(const Call& call, In dy, In x, InOut dweight, InOut dbias, bool accumulate) {
  Product product;
  product.order = Order::tn;
  product.m = last_dimension(dy), product.n = last_dimension(x), product.k = row_count(dy);
  product.a = operand_of(dy);
  product.b = operand_of(x);
  product.d = operand_of(dweight);
  if (accumulate) product.c = product.d;
  multiply(call, product);
  if (given(dbias)) sum_columns(call, dy, dbias, accumulate);
}

}  // namespace foretoken::cuda
