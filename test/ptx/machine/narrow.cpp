#include "narrow.h"

#include <limits>

namespace foretoken::machine {

namespace {

long double round_integer(long double x, Rounding rounding, Nearest ties) {
  switch (rounding) {
    case Rounding::down: return std::floor(x);
    case Rounding::up: return std::ceil(x);
    case Rounding::zero: return std::trunc(x);
    default: return ties == Nearest::away ? std::round(x) : std::nearbyint(x);
  }
}

}  // namespace

uint64_t encode(long double x, const Format& format, Rounding rounding, Nearest ties, bool saturate_finite) {
  if (x != x) return format.nan;
  const int m = format.mantissa, bias = format.bias();
  const uint64_t sign_bit = static_cast<uint64_t>(std::signbit(x)) << (m + format.exponent);
  const uint64_t infinity = ((uint64_t{1} << format.exponent) - 1) << m;
  const uint64_t largest = format.has_infinity ? infinity - 1 : infinity | ((uint64_t{1} << m) - 2);
  const uint64_t overflow = saturate_finite ? largest : format.has_infinity ? infinity : format.nan;
  if (std::isinf(x)) return sign_bit | overflow;
  if (x == 0) return sign_bit;
  const int quantum = std::max(std::ilogb(x), 1 - bias) - m;
  const long double units = std::fabs(round_integer(std::ldexp(x, -quantum), rounding, ties));
  // `units` counts quanta: below 2^(m+1) but for a carry, and adding it to the exponent field carries by itself.
  const uint64_t exponent_field = static_cast<uint64_t>(quantum + m + bias - 1) << m;
  const uint64_t result = exponent_field + static_cast<uint64_t>(units);
  if (result <= largest) return sign_bit | result;
  const bool towards_infinity =
      rounding == Rounding::nearest || (rounding == Rounding::up && x > 0) || (rounding == Rounding::down && x < 0);
  return sign_bit | (towards_infinity ? overflow : largest);
}

double decode_float(uint64_t bits, const Format& format) {
  const int m = format.mantissa;
  const uint64_t mantissa = bits & ((uint64_t{1} << m) - 1);
  const uint64_t exponent = bits >> m & ((uint64_t{1} << format.exponent) - 1);
  const bool negative = bits >> (m + format.exponent) & 1;
  const uint64_t top = (uint64_t{1} << format.exponent) - 1;
  double x;
  if (exponent == top && (format.has_infinity || mantissa == (uint64_t{1} << m) - 1))
    x = format.has_infinity && mantissa == 0 ? std::numeric_limits<double>::infinity()
                                             : std::numeric_limits<double>::quiet_NaN();
  else if (exponent == 0)
    x = std::ldexp(static_cast<double>(mantissa), 1 - format.bias() - m);
  else
    x = std::ldexp(static_cast<double>(mantissa | uint64_t{1} << m), static_cast<int>(exponent) - format.bias() - m);
  return negative ? -x : x;
}

}  // namespace foretoken::machine
