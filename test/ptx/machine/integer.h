// Integer operations: what add, mul, div, … do to one lane.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace foretoken::machine {

// Unsigned and at least as wide as int: arithmetic in it wraps and promotes to nothing surprising.
template <class T>
using Modular = std::conditional_t<(sizeof(T) > 4), uint64_t, uint32_t>;

template <class T>
struct Doubled;
template <>
struct Doubled<uint16_t> {
  using type = uint32_t;
};
template <>
struct Doubled<int16_t> {
  using type = int32_t;
};
template <>
struct Doubled<uint32_t> {
  using type = uint64_t;
};
template <>
struct Doubled<int32_t> {
  using type = int64_t;
};
template <>
struct Doubled<uint64_t> {
  using type = unsigned __int128;
};
template <>
struct Doubled<int64_t> {
  using type = __int128;
};
template <class T>
using Wide = typename Doubled<T>::type;

template <class T>
constexpr int kBits = 8 * sizeof(T);

template <class T>
T low_product(T a, T b) {
  return static_cast<T>(static_cast<Modular<T>>(a) * static_cast<Modular<T>>(b));
}
template <class T>
Wide<T> wide_product(T a, T b) {
  return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
}
template <class T>
T high_product(T a, T b) {
  return static_cast<T>(wide_product(a, b) >> kBits<T>);
}
template <class T>
T wrapped_sum(T a, T b) {
  return static_cast<T>(static_cast<Modular<T>>(a) + static_cast<Modular<T>>(b));
}
inline int32_t saturated(int64_t x) {
  return static_cast<int32_t>(
      std::clamp<int64_t>(x, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return wrapped_sum(a, b);
  }
};
struct Subtract {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Modular<T>>(a) - static_cast<Modular<T>>(b));
  }
};
struct AddSaturated {
  static int32_t apply(int32_t a, int32_t b) { return saturated(int64_t{a} + b); }
};
struct SubtractSaturated {
  static int32_t apply(int32_t a, int32_t b) { return saturated(int64_t{a} - b); }
};
struct MultiplyLow {
  template <class T>
  static T apply(T a, T b) {
    return low_product(a, b);
  }
};
struct MultiplyHigh {
  template <class T>
  static T apply(T a, T b) {
    return high_product(a, b);
  }
};
struct MultiplyWide {
  template <class T>
  static Wide<T> apply(T a, T b) {
    return wide_product(a, b);
  }
};
struct MultiplyAddLow {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrapped_sum(low_product(a, b), c);
  }
};
struct MultiplyAddHigh {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrapped_sum(high_product(a, b), c);
  }
};
struct MultiplyAddHighSaturated {
  static int32_t apply(int32_t a, int32_t b, int32_t c) { return saturated(int64_t{high_product(a, b)} + c); }
};
struct MultiplyAddWide {
  template <class T>
  static Wide<T> apply(T a, T b, Wide<T> c) {
    return wrapped_sum<Wide<T>>(wide_product(a, b), c);
  }
};
// 24-bit factors, sign- or zero-extended from bit 23; the low 32 bits of 48, or bits 16 … 47.
template <class T>
T low_24(T x) {
  return static_cast<T>(static_cast<T>(static_cast<uint32_t>(x) << 8) >> 8);
}
struct Multiply24Low {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(wide_product(low_24(a), low_24(b)));
  }
};
struct Multiply24High {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(wide_product(low_24(a), low_24(b)) >> 16);
  }
};
struct MultiplyAdd24Low {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrapped_sum(Multiply24Low::apply(a, b), c);
  }
};
struct MultiplyAdd24High {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrapped_sum(Multiply24High::apply(a, b), c);
  }
};
struct MultiplyAdd24HighSaturated {
  static int32_t apply(int32_t a, int32_t b, int32_t c) { return saturated(int64_t{Multiply24High::apply(a, b)} + c); }
};
// Division by zero gives all ones, as the hardware's routine does, and the remainder is the dividend.
struct Divide {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return Subtract::apply(T{0}, a);
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return 0;
    return static_cast<T>(a % b);
  }
};
struct Negate {
  template <class T>
  static T apply(T a) {
    return Subtract::apply(T{0}, a);
  }
};
struct Absolute {
  template <class T>
  static T apply(T a) {
    return a < 0 ? Negate::apply(a) : a;
  }
};
struct Minimum {
  template <class T>
  static T apply(T a, T b) {
    return b < a ? b : a;
  }
};
struct Maximum {
  template <class T>
  static T apply(T a, T b) {
    return a < b ? b : a;
  }
};
template <class Op>
struct Relu {
  template <class T>
  static T apply(T a, T b) {
    return Maximum::apply(Op::apply(a, b), T{0});
  }
};
struct SumOfDifferences {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrapped_sum(c, a < b ? Subtract::apply(b, a) : Subtract::apply(a, b));
  }
};
// Both halves of a 32-bit register on their own.
template <class Op, class T>
struct Halves {
  static uint32_t apply(uint32_t a, uint32_t b) {
    const T low = Op::apply(static_cast<T>(a), static_cast<T>(b));
    const T high = Op::apply(static_cast<T>(a >> 16), static_cast<T>(b >> 16));
    return static_cast<uint16_t>(low) | uint32_t{static_cast<uint16_t>(high)} << 16;
  }
};
template <class A, class B>
struct DotBytes {
  static int32_t apply(uint32_t a, uint32_t b, int32_t c) {
    int64_t sum = c;
    for (int k = 0; k < 32; k += 8) sum += int64_t{static_cast<A>(a >> k)} * static_cast<B>(b >> k);
    return static_cast<int32_t>(sum);
  }
};
// Shift: of the bytes of b that are used: 0 for .lo, 16 for .hi.
template <class A, class B, int Shift>
struct DotHalves {
  static int32_t apply(uint32_t a, uint32_t b, int32_t c) {
    const int64_t low = int64_t{static_cast<A>(a)} * static_cast<B>(b >> Shift);
    const int64_t high = int64_t{static_cast<A>(a >> 16)} * static_cast<B>(b >> (Shift + 8));
    return static_cast<int32_t>(c + low + high);
  }
};

}  // namespace foretoken::machine
