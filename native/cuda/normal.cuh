// The random numbers of core/philox.h and core/normal.h on the device, bit for bit.
#pragma once
#include "../core/normal.h"
#include "device.cuh"

namespace foretoken::cuda {

// A double whose operations are each rounded to nearest: nothing is contracted into a fused multiply-add.
struct Rounded {
  double value;
  __device__ __forceinline__ Rounded(double x) : value(x) {}
};
__device__ __forceinline__ Rounded operator+(Rounded a, Rounded b) { return __dadd_rn(a.value, b.value); }
__device__ __forceinline__ Rounded operator-(Rounded a, Rounded b) { return __dsub_rn(a.value, b.value); }
__device__ __forceinline__ Rounded operator*(Rounded a, Rounded b) { return __dmul_rn(a.value, b.value); }
__device__ __forceinline__ Rounded operator/(Rounded a, Rounded b) { return __ddiv_rn(a.value, b.value); }

// ---- words ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ Philox device_philox4x32(Philox counter, uint32_t key0, uint32_t key1) {
  constexpr int kRounds = 10;
  constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
#pragma unroll
  for (int round = 0; round < kRounds; round++) {
    const uint32_t high0 = __umulhi(kMultiplier0, counter.v[0]), low0 = kMultiplier0 * counter.v[0];
    const uint32_t high1 = __umulhi(kMultiplier1, counter.v[2]), low1 = kMultiplier1 * counter.v[2];
    counter = {{high1 ^ counter.v[1] ^ key0, low1, high0 ^ counter.v[3] ^ key1, low0}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

__device__ __forceinline__ Philox device_philox(uint64_t seed, uint64_t stream, uint64_t index) {
  return device_philox4x32({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                             static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)}},
                           static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// ---- functions -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ double device_log(double x) {
  const uint64_t bits = __double_as_longlong(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = __longlong_as_double((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.41421356237309515) {
    m = m * 0.5;
    exponent++;
  }
  constexpr double kOdd[] = {1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};
  const Rounded s = (Rounded(m) - 1.0) / (Rounded(m) + 1.0), square = s * s;
  Rounded sum = 0.0;
#pragma unroll
  for (double coefficient : kOdd) sum = sum * square + coefficient;
  return (Rounded(exponent) * kLn2 + Rounded(2.0) * s * sum).value;
}

__device__ __forceinline__ double device_exp(double x) {
  if (!(x > -700.0)) return 0.0;
  const int n = static_cast<int>((Rounded(x) * (1.0 / kLn2) - 0.5).value);
  const Rounded r = Rounded(x) - Rounded(n) * kLn2;
  constexpr double kInverseFactorial[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0,         1.0};
  Rounded sum = 0.0;
#pragma unroll
  for (double coefficient : kInverseFactorial) sum = sum * r + coefficient;
  return (sum * __longlong_as_double(static_cast<int64_t>(n + 1023) << 52)).value;
}

__device__ __forceinline__ double device_cosine_of_turns(double t) {
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
  const int quarter = static_cast<int>((Rounded(4.0) * t + 0.5).value);
  const Rounded x = Rounded(2.0 * kPi) * (Rounded(t) - Rounded(0.25) * Rounded(quarter));
  const bool sine = quarter & 1;
  const Rounded square = x * x;
  Rounded sum = 0.0;
#pragma unroll
  for (int k = 0; k < 9; k++) sum = sum * square + (sine ? kSine[k] : kCosine[k]);
  const double value = sine ? (x * sum).value : sum.value;
  return quarter == 1 || quarter == 2 ? -value : value;
}

// ---- distributions -------------------------------------------------------------------------------------------------

__device__ __forceinline__ double device_open_uniform(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return ((Rounded(static_cast<double>(bits)) + 0.5) * (1.0 / 4503599627370496.0)).value;
}

__device__ __forceinline__ double device_normal(const Philox& words) {
  const Rounded square = Rounded(-2.0) * device_log(device_open_uniform(words.v[0], words.v[1]));
  const Rounded radius = __dsqrt_rn(square.value);
  return (radius * device_cosine_of_turns(device_open_uniform(words.v[2], words.v[3]))).value;
}

__device__ __forceinline__ double device_gumbel(const Philox& words) {
  return -device_log(-device_log(device_open_uniform(words.v[0], words.v[1])));
}

__device__ __forceinline__ double device_gumbel_bound(const Philox& words) {
  constexpr double kLargest = 36.8;
  const int zeros = __clz(~words.v[0]);  // 32 for a word of ones
  return zeros == 32 ? kLargest : (Rounded(kLn2) * (zeros + 1) + 1e-9).value;
}

}  // namespace foretoken::cuda
