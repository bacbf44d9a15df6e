// f32 and f64 arithmetic.
#include "floating.h"
#include "rounding.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Base in T with the modifiers .ftz and .sat (only f32 has them) and a rounding.
template <class Base, class... S>
void use_f32(Form& form) {
  const Rounding rounding = take_rounding(form);
  const bool ftz = form.take("ftz"), sat = form.take("sat");
  form.instruction.category = Class::float32;
  if (ftz && sat) return use_rounded<Float<Base, true, true>, float, S...>(form, rounding);
  if (ftz) return use_rounded<Float<Base, true, false>, float, S...>(form, rounding);
  if (sat) return use_rounded<Float<Base, false, true>, float, S...>(form, rounding);
  use_rounded<Float<Base, false, false>, float, S...>(form, rounding);
}

template <class Base, class... S>
void use_f64(Form& form) {
  form.instruction.category = Class::float64;
  use_rounded<Float<Base, false, false>, double, S...>(form, take_rounding(form));
}

template <class Base, int Arity>
void use_float(Form& form, Type type) {
  if constexpr (Arity == 2) {
    type == Type::f32 ? use_f32<Base, float, float>(form) : use_f64<Base, double, double>(form);
  } else {
    type == Type::f32 ? use_f32<Base, float, float, float>(form) : use_f64<Base, double, double, double>(form);
  }
}

// Without .sat: div, rcp, sqrt.
template <class Base, int Arity>
void use_quotient(Form& form, Type type) {
  const Rounding rounding = take_rounding(form);
  const auto use = [&]<class T, bool Ftz>(T, std::bool_constant<Ftz>) {
    if constexpr (Arity == 1)
      use_rounded<Float<Base, Ftz, false>, T, T>(form, rounding);
    else
      use_rounded<Float<Base, Ftz, false>, T, T, T>(form, rounding);
  };
  form.instruction.category = type == Type::f32 ? Class::float32 : Class::float64;
  if (type == Type::f64) return use(double{}, std::false_type{});
  if (form.take("ftz")) return use(float{}, std::true_type{});
  use(float{}, std::false_type{});
}

// Not rounded at all.
template <class Base>
void use_f32_exact(Form& form) {
  form.instruction.category = Class::float32;
  if (form.take("ftz")) return use_lanewise<Float<Base, true, false>, float, float, float>(form);
  use_lanewise<Float<Base, false, false>, float, float, float>(form);
}

template <class Base>
void use_sign(Form& form, Type type) {
  form.instruction.category = type == Type::f32 ? Class::float32 : Class::float64;
  if (type == Type::f64) return use_lanewise<FloatBits<Base, false>, double, double>(form);
  if (form.take("ftz")) return use_lanewise<FloatBits<Base, true>, float, float>(form);
  use_lanewise<FloatBits<Base, false>, float, float>(form);
}

template <bool Less>
void use_extremum(Form& form, Type type) {
  if (type == Type::f64) {
    form.instruction.category = Class::float64;
    return use_lanewise<Float<FloatExtremum<Less, false>, false, false>, double, double, double>(form);
  }
  const bool nan = form.take("NaN"), xorsign = form.take("xorsign");
  if (xorsign) form.need("abs");
  if (nan && xorsign) return use_f32_exact<XorSign<FloatExtremum<Less, true>>>(form);
  if (nan) return use_f32_exact<FloatExtremum<Less, true>>(form);
  if (xorsign) return use_f32_exact<XorSign<FloatExtremum<Less, false>>>(form);
  use_f32_exact<FloatExtremum<Less, false>>(form);
}

// What a product and the difference behind it become: never with a rounding or .sat, which may not be fused.
template <class Base>
void use_fused(Form& form, Type type) {
  form.need("rn");
  form.instruction.category = type == Type::f32 ? Class::float32 : Class::float64;
  if (type == Type::f64) return use_lanewise<Float<Base, false, false>, double, double, double, double>(form);
  if (form.take("ftz")) return use_lanewise<Float<Base, true, false>, float, float, float, float>(form);
  use_lanewise<Float<Base, false, false>, float, float, float, float>(form);
}

}  // namespace

void select_float(Form& form, Type type) {
  form.constants(type);
  const std::string_view m = form.statement.mnemonic;
  if (m == "add") return use_float<FloatAdd, 2>(form, type);
  if (m == "sub") return use_float<FloatSubtract, 2>(form, type);
  if (m == "mul") return use_float<FloatMultiply, 2>(form, type);
  if (m == "fma" || m == "mad") return use_float<FloatFma, 3>(form, type);
  if (m == kFusedDifference) return use_fused<FloatFusedDifference>(form, type);
  if (m == kFusedDifferenceFrom) return use_fused<FloatFusedDifferenceFrom>(form, type);
  if (m == "div") return use_quotient<FloatDivide, 2>(form, type);
  if (m == "rcp") return use_quotient<FloatReciprocal, 1>(form, type);
  if (m == "sqrt") return use_quotient<FloatSquareRoot, 1>(form, type);
  if (m == "min") return use_extremum<true>(form, type);
  if (m == "max") return use_extremum<false>(form, type);
  if (m == "abs") return use_sign<FloatAbsolute>(form, type);
  if (m == "neg") return use_sign<FloatNegate>(form, type);
  if (m != "copysign") form.unknown();
  form.instruction.category = type == Type::f32 ? Class::float32 : Class::float64;
  if (type == Type::f32) return use_lanewise<CopySign, float, float, float>(form);
  use_lanewise<CopySign, double, double, double>(form);
}

}  // namespace foretoken::machine
