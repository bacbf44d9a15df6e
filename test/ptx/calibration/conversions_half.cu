// bf16 and f16: all values to float and int, floats to them with every rounding, arithmetic on pairs. The reference
// decodes and rounds by the definition of the formats, in double.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "conversions.h"

using namespace calibration;

namespace {

// A 16-bit format: sign, exponent, fraction.
template <int kExponentBits>
struct Format {
  static constexpr int kFractionBits = 15 - kExponentBits, kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kInfinity = ((1 << kExponentBits) - 1) << kFractionBits;

  static double value(uint16_t bits) {
    const int exponent = (bits & 0x7fff) >> kFractionBits, fraction = bits & ((1 << kFractionBits) - 1);
    double size;
    if (exponent == (1 << kExponentBits) - 1)
      size = fraction ? NAN : INFINITY;
    else if (exponent == 0)
      size = std::ldexp(fraction, 1 - kBias - kFractionBits);
    else
      size = std::ldexp((1 << kFractionBits) + fraction, exponent - kBias - kFractionBits);
    return bits & 0x8000 ? -size : size;
  }

  static uint16_t rounded(double from, Rounding rounding) {
    if (std::isnan(from)) return 0x7fff;
    const uint16_t sign = std::signbit(from) ? 0x8000 : 0;
    if (from == 0) return sign;
    if (std::isinf(from)) return sign | kInfinity;
    const int exponent = std::max(std::ilogb(from), 1 - kBias);
    const double quantum = std::ldexp(1.0, exponent - kFractionBits);
    const double units = std::abs(round_to_integer(from / quantum, rounding));
    // A carry out of the fraction moves on into the exponent by itself.
    const double bits = units + (static_cast<double>(exponent + kBias - 1) * (1 << kFractionBits));
    if (bits < kInfinity) return sign | static_cast<uint16_t>(bits);
    const bool away = rounding == kNearest || rounding == (sign ? kDown : kUp);
    return sign | (away ? kInfinity : kInfinity - 1);
  }
};

struct Bfloat : Format<8> {
  using Type = __nv_bfloat16;
  using Pair = __nv_bfloat162;
  static constexpr const char* kName = "bf16";
  static __device__ float to_float(Type x) { return __bfloat162float(x); }
  static __device__ Type from_float(float x, int rounding) {
    return rounding == kNearest ? __float2bfloat16_rn(x)
           : rounding == kZero  ? __float2bfloat16_rz(x)
           : rounding == kUp    ? __float2bfloat16_ru(x)
                                : __float2bfloat16_rd(x);
  }
  static __device__ Type from_double(double x) { return __double2bfloat16(x); }
  static __device__ Type from_int(int x) { return __int2bfloat16_rn(x); }
  static __device__ int to_int(Type x, int rounding) {
    return rounding == kNearest ? __bfloat162int_rn(x)
           : rounding == kZero  ? __bfloat162int_rz(x)
           : rounding == kUp    ? __bfloat162int_ru(x)
                                : __bfloat162int_rd(x);
  }
  static __device__ Pair pair_from(float low, float high) { return __floats2bfloat162_rn(low, high); }
};

struct Half : Format<5> {
  using Type = __half;
  using Pair = __half2;
  static constexpr const char* kName = "f16";
  static __device__ float to_float(Type x) { return __half2float(x); }
  static __device__ Type from_float(float x, int rounding) {
    return rounding == kNearest ? __float2half_rn(x)
           : rounding == kZero  ? __float2half_rz(x)
           : rounding == kUp    ? __float2half_ru(x)
                                : __float2half_rd(x);
  }
  static __device__ Type from_double(double x) { return __double2half(x); }
  static __device__ Type from_int(int x) { return __int2half_rn(x); }
  static __device__ int to_int(Type x, int rounding) {
    return rounding == kNearest ? __half2int_rn(x)
           : rounding == kZero  ? __half2int_rz(x)
           : rounding == kUp    ? __half2int_ru(x)
                                : __half2int_rd(x);
  }
  static __device__ Pair pair_from(float low, float high) { return __floats2half2_rn(low, high); }
};

template <class F>
typename F::Type __device__ from_bits(uint16_t bits) {
  typename F::Type value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
template <class F>
__global__ void widen(float* floats, int* integers) {
  const int i = thread_index();
  const auto value = from_bits<F>(static_cast<uint16_t>(i));
  floats[i] = F::to_float(value);
  for (const int rounding : {kNearest, kZero, kUp, kDown}) integers[rounding << 16 | i] = F::to_int(value, rounding);
}

// All 65,536 values, to float and to int.
template <class F>
void check_widening() {
  constexpr int kCount = 1 << 16;
  Buffer<float> floats(kCount);
  Buffer<int> integers(4 * kCount);
  widen<F><<<kCount / 256, 256>>>(floats.device, integers.device);
  floats.to_host();
  integers.to_host();
  Report to_float(F::kName, "to float"), to_int(F::kName, "to int");
  for (int i = 0; i < kCount; ++i) {
    const double value = F::value(static_cast<uint16_t>(i));
    const bool same = std::isnan(value) ? std::isnan(floats.host[i])
                                        : bits_of<uint32_t>(floats.host[i]) == bits_of<uint32_t>(float(value));
    to_float.compare(same, i, floats.host[i], value);
    for (const Rounding rounding : kRoundings) {
      const int expected = std::isnan(value) ? 0 : saturated<int>(value, rounding);
      to_int.compare(integers.host[rounding << 16 | i] == expected, value, integers.host[rounding << 16 | i], expected);
    }
  }
}

template <class F>
__global__ void narrow(const float* in, uint16_t* out, uint16_t* from_double, uint32_t* pairs, int count) {
  const int i = thread_index();
  if (i >= count) return;
  for (const int rounding : {kNearest, kZero, kUp, kDown})
    out[rounding * count + i] = bits_of<uint16_t>(F::from_float(in[i], rounding));
  // Off a float by less than a float shows: rounded twice, this would be another value.
  from_double[i] = bits_of<uint16_t>(F::from_double(in[i] * (1 + 0x1p-40)));
  pairs[i] = bits_of<uint32_t>(F::pair_from(in[i], -in[i]));
}

// Every upper half of a float with lower halves around the middle between two values, in every rounding.
template <class F>
void check_narrowing() {
  constexpr uint16_t kLower[] = {0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff};
  constexpr int kCount = 65536 * std::size(kLower);
  Buffer<float> in(kCount);
  Buffer<uint16_t> out(4 * size_t{kCount}), from_double(kCount);
  Buffer<uint32_t> pairs(kCount);
  for (int i = 0; i < kCount; ++i) in.host[i] = bits_of<float>(uint32_t(i & 0xffff) << 16 | kLower[i >> 16]);
  in.to_device();
  narrow<F><<<blocks_for(kCount), 256>>>(in.device, out.device, from_double.device, pairs.device, kCount);
  out.to_host();
  from_double.to_host();
  pairs.to_host();
  const auto same = [](uint16_t found, uint16_t expected) {
    return found == expected || (std::isnan(F::value(found)) && std::isnan(F::value(expected)));
  };
  for (const Rounding rounding : kRoundings) {
    Report report(F::kName, kRoundingNames[rounding]);
    for (int i = 0; i < kCount; ++i) {
      const uint16_t found = out.host[rounding * size_t{kCount} + i], expected = F::rounded(in.host[i], rounding);
      report.compare(same(found, expected), in.host[i], F::value(found), F::value(expected));
    }
  }
  Report doubles(F::kName, "from double"), pair(F::kName, "pair from floats");
  for (int i = 0; i < kCount; ++i) {
    const double value = in.host[i] * (1 + 0x1p-40);
    const uint16_t expected = F::rounded(value, kNearest), low = F::rounded(in.host[i], kNearest);
    const uint16_t high = F::rounded(-in.host[i], kNearest);
    doubles.compare(same(from_double.host[i], expected), value, F::value(from_double.host[i]), F::value(expected));
    const auto found_low = static_cast<uint16_t>(pairs.host[i]),
               found_high = static_cast<uint16_t>(pairs.host[i] >> 16);
    pair.compare(same(found_low, low) && same(found_high, high), in.host[i], F::value(found_low), F::value(low));
  }
}

// a + b or a × b + c with one rounding, to odd where it is not exact: rounding that again to 16 bits is then right.
double odd_sum(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double rest = sum - a, error = (a - (sum - rest)) + (b - rest);
  if (error == 0 || bits_of<uint64_t>(sum) & 1) return sum;
  return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
}

enum Operation { kAdd, kSubtract, kMultiply, kFused, kFusedRelu, kLeast, kMost, kNegate, kSize, kLess, kOperations };
constexpr const char* kOperationNames[] = {"+", "-", "×", "fma", "fma.relu", "min", "max", "neg", "abs", "<"};

template <class Pair>
__device__ Pair apply(int operation, Pair a, Pair b, Pair c) {
  switch (operation) {
    case kAdd: return __hadd2(a, b);
    case kSubtract: return __hsub2(a, b);
    case kMultiply: return __hmul2(a, b);
    case kFused: return __hfma2(a, b, c);
    case kFusedRelu: return __hfma2_relu(a, b, c);
    case kLeast: return __hmin2(a, b);
    case kMost: return __hmax2(a, b);
    case kNegate: return __hneg2(a);
    case kSize: return __habs2(a);
    default: return __hlt2(a, b);
  }
}

double expected_of(int operation, double a, double b, double c) {
  const auto relu = [](double value) { return std::isnan(value) || value > 0 ? value : 0.0; };
  switch (operation) {
    case kAdd: return odd_sum(a, b);
    case kSubtract: return odd_sum(a, -b);
    case kMultiply: return a * b;
    case kFused: return odd_sum(a * b, c);
    case kFusedRelu: return relu(odd_sum(a * b, c));
    case kLeast: return std::isnan(a) || b < a || (b == a && std::signbit(b)) ? b : a;
    case kMost: return std::isnan(a) || b > a || (b == a && std::signbit(a)) ? b : a;
    case kNegate: return -a;
    case kSize: return std::abs(a);
    default: return a < b;
  }
}

template <class F>
__global__ void arithmetic(int operation, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* out) {
  using Pair = typename F::Pair;
  const int i = thread_index();
  const auto pair = [](uint32_t bits) { return *reinterpret_cast<const Pair*>(&bits); };
  out[i] = bits_of<uint32_t>(apply<Pair>(operation, pair(a[i]), pair(b[i]), pair(c[i])));
}

// All values against others of every size.
template <class F>
void check_arithmetic() {
  constexpr int kCount = 1 << 16;
  Buffer<uint32_t> a(kCount), b(kCount), c(kCount), out(kCount);
  uint64_t state = 5;
  const auto random = [&] {
    return static_cast<uint32_t>((state = state * 6364136223846793005u + 1442695040888963407u) >> 32);
  };
  for (int i = 0; i < kCount; ++i) {
    a.host[i] = static_cast<uint32_t>(i) << 16 | (i ^ 0x8001);
    // Half of them of a's size, so that sums cancel and products neither overflow nor vanish.
    const bool near = random() & 1;
    b.host[i] = near ? a.host[i] ^ (random() & 0x81ff81ff) : random();
    c.host[i] = near ? a.host[i] ^ (random() & 0x87ff87ff) : random();
  }
  for (auto* operand : {&a, &b, &c}) operand->to_device();
  for (int operation = 0; operation < kOperations; ++operation) {
    arithmetic<F><<<kCount / 256, 256>>>(operation, a.device, b.device, c.device, out.device);
    out.to_host();
    Report report(F::kName, kOperationNames[operation]);
    for (int i = 0; i < 2 * kCount; ++i) {
      const auto half = [&](const Buffer<uint32_t>& from) {
        return static_cast<uint16_t>(from.host[i / 2] >> (i % 2 * 16));
      };
      const double x = F::value(half(a)), y = F::value(half(b)), z = F::value(half(c));
      const uint16_t expected = F::rounded(expected_of(operation, x, y, z), kNearest), found = half(out);
      const bool both_nan = std::isnan(F::value(found)) && std::isnan(F::value(expected));
      report.compare(found == expected || both_nan, x, F::value(found), F::value(expected));
    }
  }
}

template <class F>
void check_format() {
  check_widening<F>();
  check_narrowing<F>();
  check_arithmetic<F>();
}

}  // namespace

int main() {
  check_format<Bfloat>();
  check_format<Half>();
}
