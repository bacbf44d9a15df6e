// Included once per instruction set, under its target pragma, with FORETOKEN_LEVEL and SIMD_FUNCTIONS defined.
#include "cpu/simd.h"
#include "simd_functions.h"

namespace level = foretoken::FORETOKEN_LEVEL;
using foretoken::bf16;

static void exp_of(const float* x, float* y) { level::store(y, level::exp(level::load(x))); }
static void copy_float(const float* x, float* all, float* first, int64_t n) {
  level::Vec value = level::load_n(x, n);
  level::store(all, value);
  level::store_n(first, value, n);
}
static void widen(const bf16* x, float* all, int64_t n) { level::store(all, level::load_n(x, n)); }
static void narrow(const float* x, bf16* first, int64_t n) { level::store_n(first, level::load(x), n); }
static void select_first(const float* a, const float* b, float* y, int64_t n) {
  level::store(y, level::select_n(level::load(a), level::load(b), n));
}
static float sum(const float* x) { return level::reduce_add(level::load(x)); }
static float largest(const float* x) { return level::reduce_max(level::load(x)); }
static double sum_of_squares(const float* x) {
  return level::reduce_add(level::add_squares(level::zero_doubles(), level::load(x)));
}

const SimdFunctions& SIMD_FUNCTIONS() {
  static const SimdFunctions functions = {level::kWidth, exp_of, copy_float, widen,         narrow,
                                          select_first,  sum,    largest,    sum_of_squares};
  return functions;
}
