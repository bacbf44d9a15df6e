// f16 and bf16 arithmetic, single and packed. Sums and products are taken in f32, whose 24 bits make the second
// rounding harmless (24 >= 2·11 + 2); fma in f64 rounded to odd first, which makes it harmless whatever the exponents.
#include "lanewise.h"
#include "narrow.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Moves an inexact value to the neighbour with an odd last bit: rounding it again is then as rounding the exact value.
double sum_to_odd(double a, double b) {
  const double sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  const uint64_t bits = std::bit_cast<uint64_t>(sum);
  const bool adjust = error != 0 && error == error && (bits & 1) == 0;
  return std::bit_cast<double>(adjust ? bits + ((error > 0) == (sum > 0) ? 1 : uint64_t(-1)) : bits);
}

float float_to_odd(double x) {
  const float rounded = static_cast<float>(x);
  const uint32_t bits = std::bit_cast<uint32_t>(rounded);
  const double error = x - rounded;
  const bool adjust = error != 0 && error == error && (bits & 1) == 0;
  return std::bit_cast<float>(adjust ? bits + ((error > 0) == (x > 0) ? 1u : ~0u) : bits);
}

struct HalfFma {
  static float apply(float a, float b, float c) { return float_to_odd(sum_to_odd(static_cast<double>(a) * b, c)); }
};

struct NoClamp {
  static float apply(float x) { return x; }
};
struct ClampSaturated {
  static float apply(float x) { return saturate(x); }
};
struct ClampRelu {
  static float apply(float x) { return x != x || x > 0 ? x : 0.0f; }
};

template <class Format, class Base, class Clamp>
struct HalfOp {
  template <class... A>
  static uint16_t apply(A... a) {
    return Format::from_float(Clamp::apply(Base::apply(Format::to_float(a)...)));
  }
};

template <class Op>
struct Packed {
  template <class... A>
  static uint32_t apply(A... a) {
    return Op::apply(static_cast<uint16_t>(a)...) | uint32_t{Op::apply(static_cast<uint16_t>(a >> 16)...)} << 16;
  }
};

struct HalfNegate {
  static uint16_t apply(uint16_t a) { return a ^ 0x8000; }
};
struct HalfAbsolute {
  static uint16_t apply(uint16_t a) { return a & 0x7fff; }
};
template <class Base>
struct FlushedHalf {
  static uint16_t apply(uint16_t a) { return Base::apply(FlushedF16::flush_half(a)); }
};

bool is_packed(Type type) { return type == Type::f16x2 || type == Type::bf16x2; }

template <class Op, int Arity>
void use_half_op(Form& form, Type type) {
  if (is_packed(type)) {
    using U = uint32_t;
    if constexpr (Arity == 1) use_lanewise<Packed<Op>, U, U>(form, poison_halves);
    if constexpr (Arity == 2) use_lanewise<Packed<Op>, U, U, U>(form, poison_halves);
    if constexpr (Arity == 3) use_lanewise<Packed<Op>, U, U, U, U>(form, poison_halves);
  } else {
    using U = uint16_t;
    if constexpr (Arity == 1) use_lanewise<Op, U, U>(form);
    if constexpr (Arity == 2) use_lanewise<Op, U, U, U>(form);
    if constexpr (Arity == 3) use_lanewise<Op, U, U, U, U>(form);
  }
}

template <class Base, int Arity, class Clamp>
void use_format(Form& form, Type type) {
  const bool ftz = form.take("ftz");
  if (type == Type::bf16 || type == Type::bf16x2) {
    if (ftz) form.unknown();
    return use_half_op<HalfOp<Bf16, Base, Clamp>, Arity>(form, type);
  }
  if (ftz) return use_half_op<HalfOp<FlushedF16, Base, Clamp>, Arity>(form, type);
  use_half_op<HalfOp<F16, Base, Clamp>, Arity>(form, type);
}

// .sat is for f16 alone, .relu for fma alone.
template <class Base, int Arity>
void use_half(Form& form, Type type) {
  if (form.take("sat")) {
    if (type == Type::bf16 || type == Type::bf16x2) form.unknown();
    if (form.take("ftz")) return use_half_op<HalfOp<FlushedF16, Base, ClampSaturated>, Arity>(form, type);
    return use_half_op<HalfOp<F16, Base, ClampSaturated>, Arity>(form, type);
  }
  if constexpr (Arity == 3)
    if (form.take("relu")) return use_format<Base, Arity, ClampRelu>(form, type);
  use_format<Base, Arity, NoClamp>(form, type);
}

template <bool Less>
void use_extremum(Form& form, Type type) {
  const bool nan = form.take("NaN"), xorsign = form.take("xorsign");
  if (xorsign) form.need("abs");
  if (nan && xorsign) return use_format<XorSign<FloatExtremum<Less, true>>, 2, NoClamp>(form, type);
  if (nan) return use_format<FloatExtremum<Less, true>, 2, NoClamp>(form, type);
  if (xorsign) return use_format<XorSign<FloatExtremum<Less, false>>, 2, NoClamp>(form, type);
  use_format<FloatExtremum<Less, false>, 2, NoClamp>(form, type);
}

template <class Op>
void use_sign(Form& form, Type type) {
  if (form.take("ftz")) return use_half_op<FlushedHalf<Op>, 1>(form, type);
  use_half_op<Op, 1>(form, type);
}

}  // namespace

void select_half(Form& form, Type type) {
  form.instruction.category = Class::half;
  form.constants(is_packed(type) ? Type::b32 : type);
  form.take("rn");
  const std::string_view m = form.statement.mnemonic;
  if (m == "add") return use_half<FloatAdd, 2>(form, type);
  if (m == "sub") return use_half<FloatSubtract, 2>(form, type);
  if (m == "mul") return use_half<FloatMultiply, 2>(form, type);
  if (m == "fma") return use_half<HalfFma, 3>(form, type);
  if (m == "min") return use_extremum<true>(form, type);
  if (m == "max") return use_extremum<false>(form, type);
  if (m == "neg") return use_sign<HalfNegate>(form, type);
  if (m == "abs") return use_sign<HalfAbsolute>(form, type);
  form.unknown();
}

}  // namespace foretoken::machine
