// What float instructions do to one lane, besides the arithmetic itself: NaN, subnormal flush, saturation.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace foretoken::machine {

inline constexpr uint32_t kCanonicalNan = 0x7fffffff;  // of .f32

inline float canonical(float x) { return x != x ? std::bit_cast<float>(kCanonicalNan) : x; }
inline double canonical(double x) { return x; }

// Subnormals become a zero of the same sign: .ftz.
inline float flush(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}

// .sat: to [0, 1], NaN gives +0.
template <class T>
T saturate(T x) {
  return x > T{0} ? (x < T{1} ? x : T{1}) : T{0};
}

template <class T>
bool is_nan(T x) {
  return x != x;
}
template <class T>
bool sign(T x) {
  return std::signbit(x);
}

struct FloatAdd {
  template <class T>
  static T apply(T a, T b) {
    return a + b;
  }
};
struct FloatSubtract {
  template <class T>
  static T apply(T a, T b) {
    return a - b;
  }
};
struct FloatMultiply {
  template <class T>
  static T apply(T a, T b) {
    return a * b;
  }
};
struct FloatFma {
  static float apply(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static double apply(double a, double b, double c) { return __builtin_fma(a, b, c); }
};
struct FloatFusedDifference {
  template <class T>
  static T apply(T a, T b, T c) {
    return FloatFma::apply(a, b, -c);
  }
};
struct FloatFusedDifferenceFrom {
  template <class T>
  static T apply(T a, T b, T c) {
    return FloatFma::apply(-a, b, c);
  }
};
struct FloatDivide {
  template <class T>
  static T apply(T a, T b) {
    return a / b;
  }
};
struct FloatReciprocal {
  template <class T>
  static T apply(T a) {
    return T{1} / a;
  }
};
struct FloatSquareRoot {
  static float apply(float a) { return __builtin_sqrtf(a); }
  static double apply(double a) { return __builtin_sqrt(a); }
};
// -0 is less than +0. One NaN loses against a number; with .NaN it wins.
template <bool Less, bool PropagateNan>
struct FloatExtremum {
  template <class T>
  static T apply(T a, T b) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    if (PropagateNan && (is_nan(a) || is_nan(b))) return nan;
    const bool first = is_nan(b) || (Less ? a < b : b < a) || (a == b && sign(a) == Less);
    return is_nan(a) ? (is_nan(b) ? nan : b) : (first ? a : b);
  }
};
// .xorsign.abs: of the magnitudes, with the product's sign.
template <class Base>
struct XorSign {
  template <class T>
  static T apply(T a, T b) {
    return std::copysign(Base::apply(std::fabs(a), std::fabs(b)), sign(a) != sign(b) ? T{-1} : T{1});
  }
};
struct FloatAbsolute {
  template <class T>
  static T apply(T a) {
    return std::fabs(a);
  }
};
struct FloatNegate {
  template <class T>
  static T apply(T a) {
    return -a;
  }
};
struct CopySign {
  template <class T>
  static T apply(T a, T b) {
    return std::copysign(b, a);
  }
};

// An operation with the modifiers around it.
template <class Base, bool Ftz, bool Sat>
struct Float {
  template <class T, class... Rest>
  static T apply(T a, Rest... rest) {
    T result;
    if constexpr (Ftz)
      result = flush(canonical(Base::apply(flush(a), flush(rest)...)));
    else
      result = canonical(Base::apply(a, rest...));
    if constexpr (Sat) result = saturate(result);
    return result;
  }
};
// The same where NaN's bits pass through: abs, neg.
template <class Base, bool Ftz>
struct FloatBits {
  static float apply(float a) { return Base::apply(Ftz ? flush(a) : a); }
  static double apply(double a) { return Base::apply(a); }
};

}  // namespace foretoken::machine
