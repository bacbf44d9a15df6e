// Instructions whose result PTX gives only within a bound: rcp, sqrt, rsqrt, sin, cos, lg2, ex2, tanh, div.
//
// Results are computed in f64 and rounded once, which is better than any hardware. Options::perturb_approximations
// moves them to anywhere within the documented bound instead, as a pure function of opcode, operands and seed: what
// depends on one chip's digits does not survive that.
#include <cmath>

#include "lanewise.h"
#include "narrow.h"
#include "random.h"
#include "rounding.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Largest error as in the PTX ISA 9.0 manual, "Floating Point Instructions", less half a unit for the final rounding.
struct Bound {
  double relative = 0;
  double absolute = 0;
};

// 2^x by its Taylor series on [-1/2, 1/2]: error below 2^-30, in a form that vectorises.
double power_of_two(double x) {
  const double clamped = x < -300 ? -300 : x > 300 ? 300 : x;
  const double whole = __builtin_nearbyint(clamped), t = (clamped - whole) * 0.693147180559945309417;
  const double series =
      1 +
      t * (1 + t * (1.0 / 2 +
                    t * (1.0 / 6 + t * (1.0 / 24 + t * (1.0 / 120 + t * (1.0 / 720 + t * (1.0 / 5040 + t / 40320)))))));
  const int64_t exponent = static_cast<int32_t>(whole == whole ? whole : 0) + 1023;
  return series * std::bit_cast<double>(exponent << 52);
}

struct Reciprocal {
  static constexpr Bound kBound{0x1p-24, 0};
  static double apply(double x) { return 1 / x; }
};
struct SquareRoot {
  static constexpr Bound kBound{0x1p-24, 0};
  static double apply(double x) { return __builtin_sqrt(x); }
};
struct ReciprocalSquareRoot {
  static constexpr Bound kBound{0x1.1p-24, 0};
  static double apply(double x) { return 1 / __builtin_sqrt(x); }
};
struct Sine {
  static constexpr Bound kBound{0, 0x1p-21};
  static double apply(double x) { return std::sin(x); }
};
struct Cosine {
  static constexpr Bound kBound{0, 0x1p-21};
  static double apply(double x) { return std::cos(x); }
};
struct Logarithm2 {
  static constexpr Bound kBound{0, 0x1.8p-23};
  static double apply(double x) { return std::log2(x); }
};
struct Power2 {
  static constexpr Bound kBound{0x1.8p-23, 0};
  static double apply(double x) { return power_of_two(x); }
};
struct HyperbolicTangent {
  static constexpr Bound kBound{0x1.fp-12, 0};
  static double apply(double x) { return std::tanh(x); }
};
// Through the reciprocal: where it underflows the quotient is lost.
struct QuickQuotient {
  static constexpr Bound kBound{0x1.8p-23, 0};
  static double apply(double a, double b) {
    const double size = std::fabs(b);
    return size > 0x1p126 && size < 0x1p128 ? (std::isinf(a) ? std::nan("") : std::copysign(0.0, a * b)) : a / b;
  }
};
struct Quotient {
  static constexpr Bound kBound{0x1.8p-23, 0};
  static double apply(double a, double b) { return a / b; }
};
struct Power2F16 : Power2 {
  static constexpr Bound kBound{0x1.0p-11, 0};
};
struct Power2Bf16 : Power2 {
  static constexpr Bound kBound{0x1.0p-8, 0};
};
struct TangentF16 : HyperbolicTangent {
  static constexpr Bound kBound{0, 0x1p-12};
};
struct TangentBf16 : HyperbolicTangent {
  static constexpr Bound kBound{0, 0x1p-9};
};

// Exact results stay: zeros, infinities, NaN, and 1, which is ex2 and cos of zero and tanh of infinity.
double perturb(double result, const Bound& bound, uint64_t operands, const Context& c) {
  if (result == 0 || std::fabs(result) == 1 || !std::isfinite(result)) return result;
  const uint64_t hash = mix(
      operands ^ mix(c.launch->options.numerics_seed ^ std::bit_cast<uint64_t>(bound.relative + 3 * bound.absolute)));
  const double where = static_cast<double>(static_cast<int64_t>(hash)) * 0x1p-63;
  return result * (1 + where * bound.relative) + where * bound.absolute;
}

template <class Op>
void perturb_all(const Context& c, double* results, const uint32_t* a, const uint32_t* b) {
  for (int lane : each(c.lanes))
    results[lane] = perturb(results[lane], Op::kBound, uint64_t{b ? b[lane] : 0} << 32 | a[lane], c);
}

template <bool Ftz>
float operand(float x) {
  return Ftz ? flush(x) : x;
}

template <class Op, bool Ftz>
Outcome approximate(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  const float* a = c.source<float>(i[1]);
  alignas(64) double exact[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) exact[lane] = Op::apply(operand<Ftz>(a[lane]));
  if (c.launch->options.perturb_approximations) perturb_all<Op>(c, exact, c.source<uint32_t>(i[1]), nullptr);
  alignas(64) float result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = operand<Ftz>(canonical(static_cast<float>(exact[lane])));
  c.blend(c.target<float>(i[0]), result);
  return Outcome::next;
}

template <class Op, bool Ftz>
Outcome approximate_quotient(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index] | c.states[i[2].file][i[2].index]) [[unlikely]]
    poison(c, i);
  const float *a = c.source<float>(i[1]), *b = c.source<float>(i[2]);
  alignas(64) double exact[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) exact[lane] = Op::apply(operand<Ftz>(a[lane]), operand<Ftz>(b[lane]));
  if (c.launch->options.perturb_approximations)
    perturb_all<Op>(c, exact, c.source<uint32_t>(i[1]), c.source<uint32_t>(i[2]));
  alignas(64) float result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = operand<Ftz>(canonical(static_cast<float>(exact[lane])));
  c.blend(c.target<float>(i[0]), result);
  return Outcome::next;
}

// One or two halves in a 32-bit lane.
template <class Op, class Half, int Parts>
Outcome approximate_half(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison_halves(c, i);
  const uint32_t* a = c.source<uint32_t>(i[1]);
  const bool perturbed = c.launch->options.perturb_approximations;
  uint32_t result[kLanes] = {};
  for (int lane : each(c.lanes))
    for (int part = 0; part < Parts; ++part) {
      const auto half = static_cast<uint16_t>(a[lane] >> (16 * part));
      double exact = Op::apply(Half::to_float(half));
      if (perturbed) exact = perturb(exact, Op::kBound, half, c);
      result[lane] |= uint32_t{Half::from_float(static_cast<float>(exact))} << (16 * part);
    }
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

// f64: 20 bits of mantissa come out of the upper half of the operand; the lower half of the result is zero.
template <class Op>
Outcome approximate_double(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  constexpr uint64_t kUpper = 0xffffffff00000000;
  const uint64_t* a = c.source<uint64_t>(i[1]);
  uint64_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    uint64_t upper = a[lane] & kUpper;
    if (std::fpclassify(std::bit_cast<double>(upper)) == FP_SUBNORMAL) upper &= 0x8000000000000000;
    const double exact = Op::apply(std::bit_cast<double>(upper));
    result[lane] = std::bit_cast<uint64_t>(exact) & kUpper;
    if (std::fpclassify(exact) == FP_SUBNORMAL) result[lane] &= 0x8000000000000000;
  }
  c.blend(c.target<uint64_t>(i[0]), result);
  return Outcome::next;
}

// rsqrt.approx.f64: the whole operand counts, and the result is right to the last places.
Outcome reciprocal_square_root(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  const double* a = c.source<double>(i[1]);
  double result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    result[lane] = canonical(static_cast<double>(1 / std::sqrt(static_cast<long double>(a[lane]))));
  c.blend(c.target<double>(i[0]), result);
  return Outcome::next;
}

void expect_rows(Form& form, int operands, uint32_t bits) {
  form.expect_operands(operands, operands);
  for (int k = 0; k < operands; ++k) expect_row(form, k, bits, k == 0);
}

template <class Op>
void use_f32(Form& form) {
  expect_rows(form, 2, 32);
  form.take("ftz") ? form.use(approximate<Op, true>) : form.use(approximate<Op, false>);
}

template <class Op>
void use_quotient(Form& form) {
  expect_rows(form, 3, 32);
  form.take("ftz") ? form.use(approximate_quotient<Op, true>) : form.use(approximate_quotient<Op, false>);
}

template <class OpF16, class OpBf16>
void use_half(Form& form, Type type) {
  form.take("ftz");
  expect_rows(form, 2, 32);
  switch (type) {
    case Type::f16: return form.use(approximate_half<OpF16, F16, 1>);
    case Type::f16x2: return form.use(approximate_half<OpF16, F16, 2>);
    case Type::bf16: return form.use(approximate_half<OpBf16, Bf16, 1>);
    case Type::bf16x2: return form.use(approximate_half<OpBf16, Bf16, 2>);
    default: form.unknown();
  }
}

void use_f64(Form& form) {
  form.instruction.category = Class::special;
  const bool coarse = form.take("ftz");
  expect_rows(form, 2, 64);
  const std::string_view m = form.statement.mnemonic;
  if (m == "rcp" && coarse) return form.use(approximate_double<Reciprocal>);
  if (m == "rsqrt" && coarse) return form.use(approximate_double<ReciprocalSquareRoot>);
  if (m == "rsqrt") return form.use(reciprocal_square_root);
  form.unknown();
}

}  // namespace

void select_approximate(Form& form) {
  const std::string_view m = form.statement.mnemonic;
  const bool full = form.take("full");
  const bool approx = form.take("approx");
  const Type type = form.take_type();
  if (!approx && !full) {
    if (m != "rcp" && m != "sqrt") form.unknown();
    return select_float(form, type);
  }
  form.instruction.category = Class::special;
  form.constants(type);
  if (is_half(type)) {
    if (m == "ex2") return use_half<Power2F16, Power2Bf16>(form, type);
    if (m == "tanh") return use_half<TangentF16, TangentBf16>(form, type);
    form.unknown();
  }
  if (type == Type::f64) return use_f64(form);
  if (type != Type::f32) form.unknown();
  if (m == "div") return full ? use_quotient<Quotient>(form) : use_quotient<QuickQuotient>(form);
  if (m == "rcp") return use_f32<Reciprocal>(form);
  if (m == "sqrt") return use_f32<SquareRoot>(form);
  if (m == "rsqrt") return use_f32<ReciprocalSquareRoot>(form);
  if (m == "sin") return use_f32<Sine>(form);
  if (m == "cos") return use_f32<Cosine>(form);
  if (m == "lg2") return use_f32<Logarithm2>(form);
  if (m == "ex2") return use_f32<Power2>(form);
  if (m == "tanh") return use_f32<HyperbolicTangent>(form);
  form.unknown();
}

}  // namespace foretoken::machine
