// Operations on bits: what shifts, fields, permutations and counts do to one lane.
#pragma once
#include <bit>

#include "integer.h"

namespace foretoken::machine {

struct And {
  template <class T>
  static T apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  static T apply(T a) {
    return static_cast<T>(~a);
  }
};
struct IsZero {
  template <class T>
  static T apply(T a) {
    return a == 0;
  }
};

// Amounts beyond the width clamp: all bits leave, or the sign fills.
struct ShiftLeft {
  template <class T>
  static T apply(T a, uint32_t n) {
    return n >= kBits<T> ? T{0} : static_cast<T>(static_cast<Modular<T>>(a) << n);
  }
};
struct ShiftRight {
  template <class T>
  static T apply(T a, uint32_t n) {
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> std::min<uint32_t>(n, kBits<T> - 1));
    return n >= kBits<T> ? T{0} : static_cast<T>(a >> (n & (kBits<T> - 1)));
  }
};
template <bool Left, bool Clamp>
struct FunnelShift {
  static uint32_t apply(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t n = Clamp ? std::min(c, 32u) : c & 31;
    const uint64_t both = uint64_t{b} << 32 | a;
    return static_cast<uint32_t>(Left ? both << n >> 32 : both >> n);
  }
};

struct ExtractField {
  template <class T>
  static T apply(T a, uint32_t b, uint32_t c) {
    using U = std::make_unsigned_t<T>;
    const uint32_t position = b & 0xff, length = c & 0xff, top = kBits<T> - 1;
    const U bits = static_cast<U>(a);
    const U shifted = position > top ? U{0} : static_cast<U>(bits >> position);
    const uint32_t kept = std::min(length, position > top ? 0 : kBits<T> - position);
    const U mask = kept >= kBits<T> ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << kept) - 1);
    const bool negative = std::is_signed_v<T> && length != 0 && (bits >> std::min(position + length - 1, top) & 1);
    return static_cast<T>((shifted & mask) | (negative ? static_cast<U>(~mask) : U{0}));
  }
};
struct InsertField {
  template <class T>
  static T apply(T a, T b, uint32_t c, uint32_t d) {
    const uint32_t position = c & 0xff, length = d & 0xff;
    if (position >= kBits<T> || length == 0) return b;
    const T field = length >= kBits<T> ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
    const T mask = static_cast<T>(field << position);
    return static_cast<T>((b & ~mask) | ((a << position) & mask));
  }
};
template <bool Clamp>
struct BitMask {
  static uint32_t apply(uint32_t a, uint32_t b) {
    const uint32_t position = a & 31, end = position + (b & 31);
    if (Clamp && a >= 32) return 0;
    const uint32_t from = ~0u << position;
    return end >= 32 || (Clamp && b >= 32) ? from : from & ~(~0u << end);
  }
};
template <bool Signed, bool Clamp>
struct ExtendSign {
  static uint32_t apply(uint32_t a, uint32_t b) {
    const uint32_t width = b & 31;
    if (Clamp && b >= 32) return a;
    const uint32_t above = ~0u << width;
    const bool negative = Signed && width != 0 && (a >> (width - 1) & 1);
    return (a & ~above) | (negative ? above : 0);
  }
};

struct PopulationCount {
  template <class T>
  static uint32_t apply(T a) {
    return static_cast<uint32_t>(std::popcount(a));
  }
};
struct LeadingZeros {
  template <class T>
  static uint32_t apply(T a) {
    return static_cast<uint32_t>(std::countl_zero(a));
  }
};
struct Reverse {
  static uint32_t apply(uint32_t a) {
    a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
    a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
    a = (a >> 4 & 0x0f0f0f0f) | (a & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(a);
  }
  static uint64_t apply(uint64_t a) {
    return uint64_t{apply(static_cast<uint32_t>(a))} << 32 | apply(static_cast<uint32_t>(a >> 32));
  }
};
// Position of the highest bit that differs from the sign; all ones if there is none.
template <bool ShiftAmount>
struct FindBit {
  template <class T>
  static uint32_t apply(T a) {
    using U = std::make_unsigned_t<T>;
    const U bits = static_cast<U>(a < 0 ? ~a : a);
    if (bits == 0) return ~0u;
    const uint32_t leading = static_cast<uint32_t>(std::countl_zero(bits));
    return ShiftAmount ? leading : kBits<T> - 1 - leading;
  }
};
// The n-th set bit from `base`, upwards for positive offsets, downwards for negative ones.
struct FindNthSet {
  static uint32_t apply(uint32_t mask, uint32_t base, int32_t offset) {
    if (offset == 0) return base < 32 && (mask >> base & 1) ? base : ~0u;
    int64_t count = std::abs(int64_t{offset}) - 1;
    for (int64_t position = base; position >= 0 && position < 32; position += offset > 0 ? 1 : -1)
      if ((mask >> position & 1) && count-- == 0) return static_cast<uint32_t>(position);
    return ~0u;
  }
};

// --- prmt: byte k of the result is byte index(k) of {b, a}

template <class Index>
struct PermuteBytes {
  static uint32_t apply(uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t both = uint64_t{b} << 32 | a;
    uint32_t result = 0;
    for (uint32_t k = 0; k < 4; ++k)
      result |= static_cast<uint32_t>(both >> (8 * Index::of(c & 3, c & 7, k)) & 0xff) << (8 * k);
    return result;
  }
};
struct Forward4 {
  static uint32_t of(uint32_t, uint32_t c, uint32_t k) { return (c + k) & 7; }
};
struct Backward4 {
  static uint32_t of(uint32_t, uint32_t c, uint32_t k) { return (c - k) & 7; }
};
struct Replicate8 {
  static uint32_t of(uint32_t c, uint32_t, uint32_t) { return c; }
};
struct EdgeLeft {
  static uint32_t of(uint32_t c, uint32_t, uint32_t k) { return std::max(c, k); }
};
struct EdgeRight {
  static uint32_t of(uint32_t c, uint32_t, uint32_t k) { return std::min(c, k); }
};
struct Replicate16 {
  static uint32_t of(uint32_t c, uint32_t, uint32_t k) { return (c & 1) * 2 + (k & 1); }
};
// The general mode: four selectors of 4 bits; bit 3 replicates the byte's sign.
struct Permute {
  static uint32_t apply(uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t both = uint64_t{b} << 32 | a;
    uint32_t result = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t selector = c >> (4 * k) & 15;
      const uint32_t byte = static_cast<uint32_t>(both >> (8 * (selector & 7))) & 0xff;
      const uint32_t sign = byte & 0x80 ? 0xff : 0;
      result |= (selector & 8 ? sign : byte) << (8 * k);
    }
    return result;
  }
};

}  // namespace foretoken::machine
