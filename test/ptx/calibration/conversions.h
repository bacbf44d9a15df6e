// Conversions between number formats: the four roundings as the host computes them, and a report of what differs.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"

namespace calibration {

enum Rounding { kNearest, kZero, kUp, kDown };
inline constexpr Rounding kRoundings[] = {kNearest, kZero, kUp, kDown};
inline constexpr const char* kRoundingNames[] = {"rn", "rz", "ru", "rd"};

inline double round_to_integer(double value, Rounding rounding) {
  switch (rounding) {
    case kNearest: return std::nearbyint(value);
    case kZero: return std::trunc(value);
    case kUp: return std::ceil(value);
    case kDown: return std::floor(value);
  }
  return value;
}

// As floating-point numbers become integers: what lies outside becomes the nearest there is.
template <class Integer>
Integer saturated(double value, Rounding rounding) {
  using Limits = std::numeric_limits<Integer>;
  const double whole = round_to_integer(value, rounding);
  if (whole >= std::ldexp(1.0, Limits::digits)) return Limits::max();
  if (whole <= static_cast<double>(Limits::min())) return Limits::min();
  return static_cast<Integer>(whole);
}

template <class To, class From>
__host__ __device__ To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline __device__ int thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
inline int blocks_for(size_t count) { return static_cast<int>((count + 255) / 256); }

// Counts what differs, names the first three, and ends the program if there was any.
class Report {
 public:
  explicit Report(const char* format, const char* what) : format_(format), what_(what) {}
  void compare(bool equal, double argument, double found, double expected) {
    ++count_;
    if (equal) return;
    if (wrong_++ < 3) std::printf("%s %s(%.17g) is %.17g, not %.17g\n", format_, what_, argument, found, expected);
  }
  ~Report() {
    std::printf("%s %s, %zu: %s\n", format_, what_, count_, wrong_ ? "WRONG" : "exact");
    require(wrong_ == 0, what_, "differs from the format's definition");
  }

 private:
  const char *format_, *what_;
  size_t count_ = 0, wrong_ = 0;
};

}  // namespace calibration
