// The math library as nvcc compiles it, against the host's in extended precision, within the bounds that CUDA
// documents: ulp between the result and the correctly rounded one (CUDA C++ Programming Guide, Mathematical Functions).
// They do not hold with PTX_PERTURB=1, and need not: they rest on the chips' ex2 and lg2, which are better than PTX
// says.
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"

using namespace calibration;

namespace {

// What a function is on either side, of one argument or of two.
#define FUNCTION(Name, on_device, on_host)                                               \
  struct Name {                                                                          \
    static __device__ auto device(auto x, [[maybe_unused]] auto y) { return on_device; } \
    static auto host(auto x, [[maybe_unused]] auto y) { return on_host; }                \
  };
FUNCTION(Sin, sin(x), std::sin(x))
FUNCTION(Cos, cos(x), std::cos(x))
FUNCTION(Tan, tan(x), std::tan(x))
FUNCTION(Exp, exp(x), std::exp(x))
FUNCTION(Exp2, exp2(x), std::exp2(x))
FUNCTION(Exp10, exp10(x), std::pow(decltype(x)(10), x))
FUNCTION(Expm1, expm1(x), std::expm1(x))
FUNCTION(Log, log(x), std::log(x))
FUNCTION(Log2, log2(x), std::log2(x))
FUNCTION(Log1p, log1p(x), std::log1p(x))
FUNCTION(Pow, pow(x, y), std::pow(x, y))
FUNCTION(Erf, erf(x), std::erf(x))
FUNCTION(Erfc, erfc(x), std::erfc(x))
FUNCTION(Tanh, tanh(x), std::tanh(x))
FUNCTION(Atan2, atan2(x, y), std::atan2(x, y))
FUNCTION(Cbrt, cbrt(x), std::cbrt(x))
FUNCTION(Rsqrt, rsqrt(x), 1 / std::sqrt(x))
FUNCTION(Sqrt, sqrt(x), std::sqrt(x))
FUNCTION(Divide, x / y, x / y)
FUNCTION(Fmod, fmod(x, y), std::fmod(x, y))
FUNCTION(Remainder, remainder(x, y), std::remainder(x, y))
FUNCTION(Floor, floor(x), std::floor(x))
FUNCTION(Rint, rint(x), std::rint(x))
FUNCTION(Round, round(x), std::round(x))
FUNCTION(Trunc, trunc(x), std::trunc(x))
FUNCTION(Fmax, fmax(x, y), x > y || std::isnan(y) ? x : y)
FUNCTION(Fmin, fmin(x, y), x < y || std::isnan(y) ? x : y)
FUNCTION(Copysign, copysign(x, y), std::copysign(x, y))
FUNCTION(FastExp, __expf(x), std::exp(x))
FUNCTION(FastLog, __logf(x), std::log(x))
FUNCTION(FastSin, __sinf(x), std::sin(x))
FUNCTION(FastCos, __cosf(x), std::cos(x))
FUNCTION(FastDivide, __fdividef(x, y), x / y)
#undef FUNCTION

template <class F, class T>
__global__ void apply(const T* x, const T* y, T* out, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = F::device(x[i], y[i]);
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <class T>
T from_bits(Bits<T> bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Places on the line of all values, so that neighbours differ by one.
template <class T>
__int128 place(T value) {
  Bits<T> bits;
  std::memcpy(&bits, &value, sizeof bits);
  const Bits<T> sign = Bits<T>{1} << (sizeof(T) * 8 - 1);
  return bits & sign ? -__int128(bits ^ sign) : __int128(bits);
}

// Arguments: every pair of the special ones, bit patterns of all kinds, and numbers of everyday size.
template <class T>
struct Arguments {
  explicit Arguments(int count) : x(0), y(0) {
    using Limits = std::numeric_limits<T>;
    const T special[] = {0,
                         T(0.5),
                         1,
                         T(1.5),
                         2,
                         3,
                         T(1e5),
                         T(3e9),
                         T(1e30),
                         Limits::min(),
                         Limits::denorm_min(),
                         Limits::max(),
                         Limits::infinity(),
                         Limits::quiet_NaN(),
                         T(88.8),
                         T(103.9),
                         T(709.9)};
    for (const T a : special)
      for (const T b : special)
        for (const int signs : {0, 1, 2, 3}) add(signs & 1 ? -a : a, signs & 2 ? -b : b);
    uint64_t state = 11;
    const auto random = [&] { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 11; };
    for (int i = 0; i < count; ++i) {
      const auto a = static_cast<Bits<T>>(random() << 11 | random() >> 42), b = static_cast<Bits<T>>(random() << 11);
      add(from_bits<T>(sizeof(T) == 4 ? static_cast<Bits<T>>(random()) : a),
          from_bits<T>(sizeof(T) == 4 ? static_cast<Bits<T>>(random()) : b));
    }
    const auto everyday = [&] { return (T(random()) * T(0x1p-52) - 1) * std::pow(T(2), T(random() % 9) - 2); };
    for (int i = 0; i < count; ++i) add(everyday(), everyday());
  }
  void add(T a, T b) { x.push_back(a), y.push_back(b); }
  std::vector<T> x, y;
};

// `allowed(x, y, exact)` in ulp of the result; infinite where nothing is promised. The host computes in extended
// precision, but what has to be exact in T itself: rounding twice may differ.
template <class F, class Reference, class T, class Allowed>
void check(const char* name, const Arguments<T>& arguments, Allowed allowed) {
  const int count = static_cast<int>(arguments.x.size());
  Buffer<T> x(count), y(count), out(count);
  x.host = arguments.x;
  y.host = arguments.y;
  x.to_device();
  y.to_device();
  apply<F><<<(count + 255) / 256, 256>>>(x.device, y.device, out.device, count);
  finish(name);
  out.to_host();
  double worst = 0;
  size_t wrong = 0;
  for (int i = 0; i < count; ++i) {
    const T expected = static_cast<T>(F::host(Reference(x.host[i]), Reference(y.host[i]))), found = out.host[i];
    if (std::isnan(expected) && std::isnan(found)) continue;
    const __int128 distance = place(found) - place(expected);
    const double ulps = std::isnan(expected) || std::isnan(found) ? INFINITY : std::abs(static_cast<double>(distance));
    const double bound = allowed(x.host[i], y.host[i], expected);
    if (std::isinf(bound)) continue;
    worst = std::max(worst, ulps);
    if (ulps <= bound) continue;
    if (wrong++ < 3)
      std::printf("%s(%.17g, %.17g) is %.17g, not %.17g\n", name, double(x.host[i]), double(y.host[i]), double(found),
                  double(expected));
  }
  std::printf("%s, %d arguments: at most %g ulp%s\n", name, count, worst, wrong ? ", WRONG" : "");
  require(wrong == 0, name, "is outside its bound");
}

template <class F, class T>
void check(const char* name, double ulps, const Arguments<T>& arguments) {
  const auto allowed = [&](T, T, T) { return ulps; };
  ulps == 0 ? check<F, T>(name, arguments, allowed) : check<F, long double>(name, arguments, allowed);
}

// An absolute error as ulp of the result.
double in_ulps(double error, float result) {
  return error / (std::nextafter(std::abs(result), INFINITY) - std::abs(result));
}

void check_single(const Arguments<float>& arguments) {
  check<Sin>("sinf", 2, arguments);
  check<Cos>("cosf", 2, arguments);
  check<Tan>("tanf", 4, arguments);
  check<Exp>("expf", 2, arguments);
  check<Exp2>("exp2f", 2, arguments);
  check<Exp10>("exp10f", 2, arguments);
  check<Expm1>("expm1f", 1, arguments);
  check<Log>("logf", 1, arguments);
  check<Log2>("log2f", 1, arguments);
  check<Log1p>("log1pf", 1, arguments);
  check<Pow>("powf", 4, arguments);
  check<Erf>("erff", 2, arguments);
  check<Erfc>("erfcf", 4, arguments);
  check<Tanh>("tanhf", 2, arguments);
  check<Atan2>("atan2f", 3, arguments);
  check<Cbrt>("cbrtf", 1, arguments);
  check<Rsqrt>("rsqrtf", 2, arguments);
  check<Sqrt>("sqrtf", 0, arguments);
  check<Divide>("float division", 0, arguments);
  check<Fmod>("fmodf", 0, arguments);
  check<Remainder>("remainderf", 0, arguments);
  check<Floor>("floorf", 0, arguments);
  check<Rint>("rintf", 0, arguments);
  check<Round>("roundf", 0, arguments);
  check<Trunc>("truncf", 0, arguments);
  check<Fmax>("fmaxf", 0, arguments);
  check<Fmin>("fminf", 0, arguments);
  check<Copysign>("copysignf", 0, arguments);
}

// Straight to the approximating instructions.
void check_fast(const Arguments<float>& arguments) {
  constexpr double kAnything = INFINITY;
  const auto normal = [](float value) { return std::fpclassify(value) == FP_NORMAL; };
  check<FastExp, long double>("__expf", arguments, [&](float x, float, float result) {
    return normal(result) ? 2 + std::floor(std::abs(1.173 * x)) : kAnything;
  });
  check<FastLog, long double>("__logf", arguments, [&](float x, float, float result) {
    if (!normal(x)) return kAnything;
    return x >= 0.5f && x <= 2 ? in_ulps(0x1p-21, result) : 3.0;
  });
  const auto circular = [](float x, float, float result) {
    return std::abs(x) <= 3.14159265f ? in_ulps(0x1p-21, result) : kAnything;
  };
  check<FastSin, long double>("__sinf", arguments, circular);
  check<FastCos, long double>("__cosf", arguments, circular);
  check<FastDivide, long double>("__fdividef", arguments, [&](float x, float y, float result) {
    return normal(x) && normal(result) && std::abs(y) > 0x1p-126f && std::abs(y) < 0x1p126f ? 2.0 : kAnything;
  });
}

void check_double(const Arguments<double>& arguments) {
  check<Sin>("sin", 2, arguments);
  check<Cos>("cos", 2, arguments);
  check<Exp>("exp", 1, arguments);
  check<Log>("log", 1, arguments);
  check<Log2>("log2", 1, arguments);
  check<Pow>("pow", 2, arguments);
  check<Tanh>("tanh", 2, arguments);
  check<Rsqrt>("rsqrt", 1, arguments);
  check<Sqrt>("sqrt", 0, arguments);
  check<Divide>("double division", 0, arguments);
  check<Rint>("rint", 0, arguments);
}

}  // namespace

int main() {
  check_single(Arguments<float>(20000));
  check_fast(Arguments<float>(20000));
  check_double(Arguments<double>(5000));
  check<Fmod>("fmod", 0, Arguments<double>(500));
}
