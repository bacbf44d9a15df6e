// What every AdamW kernel needs to know about the step before it touches an element.
#pragma once
#include "blocks.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static inline double number(const View& view, int64_t i) {
  return view.dtype == DType::f64 ? static_cast<const double*>(view.data)[i] : static_cast<const float*>(view.data)[i];
}

// xⁿ by squaring: the same bits everywhere, unlike the library's pow.
static inline double integer_power(double x, int64_t n) {
  double power = 1.0;
  for (; n > 0; n /= 2, x *= x)
    if (n % 2) power *= x;
  return power;
}

struct AdamwStep {
  double learning_rate;
  double clip;    // gradients are multiplied by it
  double rate;    // learning rate / (1 − beta1^step)
  double spread;  // 1 / √(1 − beta2^step): √v̂ = √v · spread
};

static inline AdamwStep adamw_step(const In& state, const In& norm, double beta1, double beta2, double clip_norm) {
  double learning_rate = number(state, 0), clip = clip_norm / (number(norm, 0) + 1e-6);
  int64_t step = static_cast<int64_t>(number(state, 1));
  return {learning_rate, clip_norm == 0 || clip > 1 ? 1.0 : clip, learning_rate / (1.0 - integer_power(beta1, step)),
          1.0 / __builtin_sqrt(1.0 - integer_power(beta2, step))};
}

// Whether this step may touch anything; a refusal is noted in status[1].
static inline bool adamw_allowed(const In& norm, const InOut& status) {
  int32_t* flags = static_cast<int32_t*>(status.data);
  bool allowed = __builtin_isfinite(number(norm, 0)) && flags[0] == 0;
  if (!allowed) flags[1] = 1;
  return allowed;
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
