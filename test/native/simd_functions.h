// native/cpu/simd.h as plain functions on arrays, so that baseline test code can call it.
#pragma once
#include <cstdint>

#include "core/dtype.h"

struct SimdFunctions {
  int64_t width;
  void (*exp)(const float* x, float* y);                                    // one vector
  void (*copy_float)(const float* x, float* all, float* first, int64_t n);  // all: width lanes; first: n elements
  void (*widen)(const foretoken::bf16* x, float* all, int64_t n);
  void (*narrow)(const float* x, foretoken::bf16* first, int64_t n);
  void (*select)(const float* a, const float* b, float* y, int64_t n);
  float (*sum)(const float* x);
  float (*largest)(const float* x);
  double (*sum_of_squares)(const float* x);
};

const SimdFunctions& simd_functions_avx2();
const SimdFunctions& simd_functions_avx512();
