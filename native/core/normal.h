// Normal and Gumbel numbers from Philox words, with the same bits on every machine: logarithm, exponential and cosine
// made of correctly rounded operations only (+ − × ÷ √), since math libraries differ in the last bit.
// To be compiled without contraction into fused multiply-adds (-ffp-contract=off, nvcc -fmad=false).
#pragma once
#include <cstdint>

#include "philox.h"

namespace foretoken {

constexpr double kLn2 = 0.693147180559945309417;
constexpr double kPi = 3.14159265358979323846;

// ln x for finite x > 0, not subnormal; relative error below 1e-13.
static inline double portable_log(double x) {
  uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.41421356237309515) {
    m = m * 0.5;
    exponent++;
  }
  // m in (√½, √2]: ln m = 2 artanh s, s = (m − 1)/(m + 1), |s| < 0.172.
  constexpr double kOdd[] = {1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};
  double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
  for (double coefficient : kOdd) sum = sum * square + coefficient;
  return exponent * kLn2 + 2.0 * s * sum;
}

// eˣ for x ≤ 0, relative error below 1e-13; 0 below −700 and for NaN.
static inline double portable_exp(double x) {
  if (!(x > -700.0)) return 0.0;
  int n = static_cast<int>(x * (1.0 / kLn2) - 0.5);
  double r = x - n * kLn2;  // |r| ≤ ln2 / 2
  constexpr double kInverseFactorial[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0,         1.0};
  double sum = 0.0;
  for (double coefficient : kInverseFactorial) sum = sum * r + coefficient;
  return sum * __builtin_bit_cast(double, static_cast<uint64_t>(n + 1023) << 52);
}

// cos 2πt for t in [0, 1], absolute error below 1e-14.
static inline double portable_cosine_of_turns(double t) {
  constexpr double kCosine[] = {1.0 / 20922789888000,
                                -1.0 / 87178291200,
                                1.0 / 479001600,
                                -1.0 / 3628800,
                                1.0 / 40320,
                                -1.0 / 720,
                                1.0 / 24,
                                -1.0 / 2,
                                1.0};
  constexpr double kSine[] = {1.0 / 355687428096000,
                              -1.0 / 1307674368000,
                              1.0 / 6227020800,
                              -1.0 / 39916800,
                              1.0 / 362880,
                              -1.0 / 5040,
                              1.0 / 120,
                              -1.0 / 6,
                              1.0};
  int quarter = static_cast<int>(4.0 * t + 0.5);
  double x = 2.0 * kPi * (t - 0.25 * quarter);  // from the nearest quarter turn: |x| ≤ π/4
  bool sine = quarter & 1;
  double square = x * x, sum = 0.0;
  for (int k = 0; k < 9; k++) sum = sum * square + (sine ? kSine[k] : kCosine[k]);
  double value = sine ? x * sum : sum;
  return quarter == 1 || quarter == 2 ? -value : value;
}

// Two words as a uniform number strictly between 0 and 1, in steps of 2⁻⁵².
static inline double philox_open_uniform(uint32_t high, uint32_t low) {
  uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return (static_cast<double>(bits) + 0.5) * (1.0 / 4503599627370496.0);
}

// Standard normal (Box and Muller 1958).
static inline double normal(const Philox& words) {
  double radius = __builtin_sqrt(-2.0 * portable_log(philox_open_uniform(words.v[0], words.v[1])));
  return radius * portable_cosine_of_turns(philox_open_uniform(words.v[2], words.v[3]));
}

// Standard Gumbel: argmax of (log-probability + Gumbel) is a draw from the distribution.
static inline double gumbel(const Philox& words) {
  return -portable_log(-portable_log(philox_open_uniform(words.v[0], words.v[1])));
}

// No smaller than gumbel(words), without the logarithms: −ln u ≥ 1 − u, whose leading zeros the first word shows.
static inline double gumbel_bound(const Philox& words) {
  constexpr double kLargest = 36.8;  // −ln(−ln(1 − 2⁻⁵³))
  int zeros = words.v[0] == ~0u ? 32 : __builtin_clz(~words.v[0]);
  return zeros == 32 ? kLargest : kLn2 * (zeros + 1) + 1e-9;
}

}  // namespace foretoken
