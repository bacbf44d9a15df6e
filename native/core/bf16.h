// Scalar conversions of stored numbers: float, bf16 and double in, float or double to calculate with, and back.
#pragma once
#include "dtype.h"

namespace foretoken {

static inline float to_float(bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }
static inline float to_float(float x) { return x; }

// Round to nearest even; NaN stays NaN.
static inline bf16 to_bf16(float x) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
// Through a float rounded to odd: rounding twice to nearest would turn near-ties into ties.
static inline bf16 to_bf16(double x) {
  float nearest = static_cast<float>(x);
  uint32_t bits = __builtin_bit_cast(uint32_t, nearest);
  if (static_cast<double>(nearest) != x && x == x && !(bits & 1))
    bits += __builtin_fabs(static_cast<double>(nearest)) < __builtin_fabs(x) ? 1u : ~0u;
  return to_bf16(__builtin_bit_cast(float, bits));
}

// Stored → arithmetic.
static inline float value_of(float x) { return x; }
static inline float value_of(bf16 x) { return to_float(x); }
static inline double value_of(double x) { return x; }

// Arithmetic → stored.
static inline void store_scalar(float* p, float x) { *p = x; }
static inline void store_scalar(float* p, double x) { *p = static_cast<float>(x); }
static inline void store_scalar(bf16* p, float x) { *p = to_bf16(x); }
static inline void store_scalar(bf16* p, double x) { *p = to_bf16(x); }
static inline void store_scalar(double* p, float x) { *p = x; }
static inline void store_scalar(double* p, double x) { *p = x; }

}  // namespace foretoken
