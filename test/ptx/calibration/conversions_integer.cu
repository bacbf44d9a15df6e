// Between integers and floating-point numbers, with every rounding and beyond every limit.
#include "conversions.h"

using namespace calibration;

namespace {

// Integers of every kind out of float and double. What PTX says of NaN: zero where a float becomes 32 bits, else the
// top bit alone.
template <class Integer, class T>
__device__ Integer to_integer(T x, int rounding) {
#define BY_ROUNDING(name)              \
  (rounding == kNearest ? name##_rn(x) \
   : rounding == kZero  ? name##_rz(x) \
   : rounding == kUp    ? name##_ru(x) \
                        : name##_rd(x))
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (std::is_same_v<Integer, int>) return BY_ROUNDING(__float2int);
    if constexpr (std::is_same_v<Integer, unsigned>) return BY_ROUNDING(__float2uint);
    if constexpr (std::is_same_v<Integer, long long>) return BY_ROUNDING(__float2ll);
    if constexpr (std::is_same_v<Integer, unsigned long long>) return BY_ROUNDING(__float2ull);
  } else {
    if constexpr (std::is_same_v<Integer, int>) return BY_ROUNDING(__double2int);
    if constexpr (std::is_same_v<Integer, unsigned>) return BY_ROUNDING(__double2uint);
    if constexpr (std::is_same_v<Integer, long long>) return BY_ROUNDING(__double2ll);
    if constexpr (std::is_same_v<Integer, unsigned long long>) return BY_ROUNDING(__double2ull);
  }
#undef BY_ROUNDING
}

template <class Integer, class T>
__global__ void to_integers(const T* in, Integer* out, int count) {
  const int i = thread_index();
  if (i >= count) return;
  for (const int rounding : {kNearest, kZero, kUp, kDown})
    out[rounding * count + i] = to_integer<Integer>(in[i], rounding);
}

template <class Integer, class T>
void check_to_integer(const char* from, const char* to) {
  std::vector<T> values = {0, T(-0.0), INFINITY, -INFINITY, NAN, std::numeric_limits<T>::max()};
  for (int exponent = -3; exponent <= 66; ++exponent)
    for (const T fraction : {T(1), T(1.25), T(1.5), T(1.75), T(1) + std::numeric_limits<T>::epsilon(),
                             T(2) - std::numeric_limits<T>::epsilon()})
      for (const int sign : {1, -1}) values.push_back(sign * std::ldexp(fraction, exponent));
  for (int half = -9; half <= 9; ++half) values.push_back(T(half) / 2);
  const int count = static_cast<int>(values.size());
  Buffer<T> in(count);
  Buffer<Integer> out(4 * count);
  in.host = values;
  in.to_device();
  to_integers<<<blocks_for(count), 256>>>(in.device, out.device, count);
  out.to_host();
  constexpr bool kNanIsZero = sizeof(T) == 4 && sizeof(Integer) == 4;
  constexpr Integer kTopBit = static_cast<Integer>(1ull << (sizeof(Integer) * 8 - 1));
  Report report(from, to);
  for (const Rounding rounding : kRoundings)
    for (int i = 0; i < count; ++i) {
      const Integer expected =
          std::isnan(values[i]) ? (kNanIsZero ? 0 : kTopBit) : saturated<Integer>(values[i], rounding);
      const Integer found = out.host[rounding * count + i];
      report.compare(found == expected, values[i], double(found), double(expected));
    }
}

// Integers into floats, where a rounding has to be made: a 64-bit integer does not fit a double either.
__global__ void from_integers(const long long* in, float* out, double* wide, int count) {
  const int i = thread_index();
  if (i >= count) return;
  const long long x = in[i];
  const float results[] = {__ll2float_rn(x), __ll2float_rz(x), __ll2float_ru(x), __ll2float_rd(x)};
  const double wide_results[] = {__ll2double_rn(x), __ll2double_rz(x), __ll2double_ru(x), __ll2double_rd(x)};
  for (int rounding = 0; rounding < 4; ++rounding) {
    out[rounding * count + i] = results[rounding];
    wide[rounding * count + i] = wide_results[rounding];
  }
}

// The largest `digits` binary digits of an integer, the rest rounded.
double rounded_integer(long long from, int digits, Rounding rounding) {
  const unsigned long long size = from < 0 ? 0 - static_cast<unsigned long long>(from) : from;
  int shift = 0;
  while (size >> shift >> digits) ++shift;
  unsigned long long kept = size >> shift;
  const unsigned long long rest = size - (kept << shift), half = shift ? 1ull << (shift - 1) : 0;
  const bool up = rounding == kNearest ? rest > half || (rest == half && rest && kept % 2)
                                       : rest && rounding == (from < 0 ? kDown : kUp);
  const double value = std::ldexp(static_cast<double>(kept + up), shift);
  return from < 0 ? -value : value;
}

void check_from_integer() {
  std::vector<long long> values = {0, INT64_MIN, INT64_MAX};
  for (int bit = 0; bit < 63; ++bit)
    for (const int ulps : {24, 25, 53, 54})
      for (const long long nudge : {-1, 0, 1})
        for (const int odd : {0, 1, 3}) {
          const long long value =
              (1ll << bit) + (bit >= ulps ? static_cast<long long>(odd) << (bit - ulps) : odd) + nudge;
          values.push_back(value), values.push_back(-value);
        }
  const int count = static_cast<int>(values.size());
  Buffer<long long> in(count);
  Buffer<float> out(4 * count);
  Buffer<double> wide(4 * count);
  in.host = values;
  in.to_device();
  from_integers<<<blocks_for(count), 256>>>(in.device, out.device, wide.device, count);
  out.to_host();
  wide.to_host();
  Report floats("long long", "to float"), doubles("long long", "to double");
  for (const Rounding rounding : kRoundings)
    for (int i = 0; i < count; ++i) {
      const double value = rounded_integer(values[i], 24, rounding), precise = rounded_integer(values[i], 53, rounding);
      floats.compare(out.host[rounding * count + i] == value, values[i], out.host[rounding * count + i], value);
      doubles.compare(wide.host[rounding * count + i] == precise, values[i], wide.host[rounding * count + i], precise);
    }
}

}  // namespace

int main() {
  check_to_integer<int, float>("float", "to int");
  check_to_integer<unsigned, float>("float", "to unsigned");
  check_to_integer<long long, float>("float", "to long long");
  check_to_integer<unsigned long long, float>("float", "to unsigned long long");
  check_to_integer<int, double>("double", "to int");
  check_to_integer<unsigned, double>("double", "to unsigned");
  check_to_integer<long long, double>("double", "to long long");
  check_to_integer<unsigned long long, double>("double", "to unsigned long long");
  check_from_integer();
}
