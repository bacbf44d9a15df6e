// add, sub, mul, mad, fma, div, …: integers here, other types in float.cpp, half.cpp, carry.cpp and approximate.cpp.
#include "integer.h"
#include "lanewise.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Constants and class of an integer instruction in one type.
Type integer_type(Form& form, Type type) {
  form.instruction.category = Class::integer;
  form.constants(type);
  return type;
}

bool goes_elsewhere(Form& form, Type type) {
  if (is_float(type)) return select_float(form, type), true;
  if (is_half(type)) return select_half(form, type), true;
  return false;
}

bool is_packed(Form& form, Type& lane_type) {
  if (form.take("u16x2")) return lane_type = Type::u16, true;
  if (form.take("s16x2")) return lane_type = Type::s16, true;
  return false;
}

template <class Op>
void use_packed(Form& form, Type lane_type) {
  integer_type(form, Type::b32);
  if (lane_type == Type::u16)
    use_lanewise<Halves<Op, uint16_t>, uint32_t, uint32_t, uint32_t>(form, poison_halves);
  else
    use_lanewise<Halves<Op, int16_t>, uint32_t, uint32_t, uint32_t>(form, poison_halves);
}

template <class Op>
void use_unary(Form& form, Type type) {
  integer_type(form, type);
  with_integer(form, type, [&]<class T>(T) { use_lanewise<Op, T, T>(form); });
}
template <class Op>
void use_binary(Form& form, Type type) {
  integer_type(form, type);
  with_integer(form, type, [&]<class T>(T) { use_lanewise<Op, T, T, T>(form); });
}
template <class Op>
void use_ternary(Form& form, Type type) {
  integer_type(form, type);
  with_integer(form, type, [&]<class T>(T) { use_lanewise<Op, T, T, T, T>(form); });
}

// d in twice the width of a and b.
template <class Op, bool Accumulates>
void use_wide(Form& form, Type type) {
  integer_type(form, type);
  if (ptx::type_bits(type) > 32) form.unknown();
  if (Accumulates)
    form.constant(3, type == Type::u16   ? Type::u32
                     : type == Type::s16 ? Type::s32
                     : type == Type::u32 ? Type::u64
                                         : Type::s64);
  with_integer(form, type, [&]<class T>(T) {
    if constexpr (sizeof(T) <= 4) {
      if constexpr (Accumulates)
        use_lanewise<Op, Wide<T>, T, T, Wide<T>>(form);
      else
        use_lanewise<Op, Wide<T>, T, T>(form);
    }
  });
}

template <class Op, class SaturatedOp>
void select_sum(Form& form) {
  if constexpr (std::is_same_v<Op, Add>) {  // there is no packed sub
    Type lane_type;
    if (is_packed(form, lane_type)) return use_packed<Op>(form, lane_type);
  }
  if (form.statement.has("cc")) return select_carry(form);
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  if (!form.take("sat")) return use_binary<Op>(form, type);
  if (integer_type(form, type) != Type::s32) form.unknown();
  use_lanewise<SaturatedOp, int32_t, int32_t, int32_t>(form);
}

void select_mul(Form& form) {
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  switch (form.take_one({"lo", "hi", "wide"})) {
    case 0: return use_binary<MultiplyLow>(form, type);
    case 1: return use_binary<MultiplyHigh>(form, type);
    case 2: return use_wide<MultiplyWide, false>(form, type);
    default: form.unknown();
  }
}

void select_mad(Form& form) {
  if (form.statement.has("cc")) return select_carry(form);
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  switch (form.take_one({"lo", "hi", "wide"})) {
    case 0: return use_ternary<MultiplyAddLow>(form, type);
    case 1:
      if (!form.take("sat")) return use_ternary<MultiplyAddHigh>(form, type);
      if (integer_type(form, type) != Type::s32) form.unknown();
      return use_lanewise<MultiplyAddHighSaturated, int32_t, int32_t, int32_t, int32_t>(form);
    case 2: return use_wide<MultiplyAddWide, true>(form, type);
    default: form.unknown();
  }
}

template <class Op, int Arity>
void use_24(Form& form, Type type) {
  integer_type(form, type);
  const auto use = [&]<class T>(T) {
    if constexpr (Arity == 2)
      use_lanewise<Op, T, T, T>(form);
    else
      use_lanewise<Op, T, T, T, T>(form);
  };
  if (type == Type::u32) return use(uint32_t{});
  if (type != Type::s32) form.unknown();
  use(int32_t{});
}

void select_mul24(Form& form) {
  const Type type = form.take_type();
  if (form.take("lo")) return use_24<Multiply24Low, 2>(form, type);
  form.need("hi");
  use_24<Multiply24High, 2>(form, type);
}

void select_mad24(Form& form) {
  const Type type = form.take_type();
  if (form.take("lo")) return use_24<MultiplyAdd24Low, 3>(form, type);
  form.need("hi");
  if (!form.take("sat")) return use_24<MultiplyAdd24High, 3>(form, type);
  if (integer_type(form, type) != Type::s32) form.unknown();
  use_lanewise<MultiplyAdd24HighSaturated, int32_t, int32_t, int32_t, int32_t>(form);
}

void select_div(Form& form) {
  if (form.statement.has("approx") || form.statement.has("full")) return select_approximate(form);
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  use_binary<Divide>(form, type);
}

void select_rem(Form& form) { use_binary<Remainder>(form, form.take_type()); }
void select_sad(Form& form) { use_ternary<SumOfDifferences>(form, form.take_type()); }

void select_neg(Form& form) {
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  switch (integer_type(form, type)) {
    case Type::s16: return use_lanewise<Negate, int16_t, int16_t>(form);
    case Type::s32: return use_lanewise<Negate, int32_t, int32_t>(form);
    case Type::s64: return use_lanewise<Negate, int64_t, int64_t>(form);
    default: form.unknown();
  }
}

void select_abs(Form& form) {
  const Type type = form.take_type();
  if (goes_elsewhere(form, type)) return;
  switch (integer_type(form, type)) {
    case Type::s16: return use_lanewise<Absolute, int16_t, int16_t>(form);
    case Type::s32: return use_lanewise<Absolute, int32_t, int32_t>(form);
    case Type::s64: return use_lanewise<Absolute, int64_t, int64_t>(form);
    default: form.unknown();
  }
}

template <class Op>
void select_extremum(Form& form) {
  const bool relu = form.take("relu");
  Type lane_type;
  if (is_packed(form, lane_type)) {
    if (!relu) return use_packed<Op>(form, lane_type);
    if (lane_type != Type::s16) form.unknown();
    return use_packed<Relu<Op>>(form, lane_type);
  }
  const Type type = form.take_type();
  if (!relu && goes_elsewhere(form, type)) return;
  if (!relu) return use_binary<Op>(form, type);
  if (integer_type(form, type) != Type::s32) form.unknown();
  use_lanewise<Relu<Op>, int32_t, int32_t, int32_t>(form);
}

void select_fma(Form& form) {
  if (!goes_elsewhere(form, form.take_type())) form.unknown();
}

template <template <class, class> class Op>
void use_dot(Form& form) {
  form.instruction.category = Class::integer;
  const bool a_signed = form.take_type() == Type::s32;
  const bool b_signed = form.take_type() == Type::s32;
  form.constants(Type::b32);
  const auto use = [&]<class O>(O) { use_lanewise<O, int32_t, uint32_t, uint32_t, int32_t>(form); };
  if (a_signed && b_signed) return use(typename Op<int, int>::Made{});
  if (a_signed) return use(typename Op<int, unsigned>::Made{});
  if (b_signed) return use(typename Op<unsigned, int>::Made{});
  use(typename Op<unsigned, unsigned>::Made{});
}

template <class Sign>
using Byte = std::conditional_t<std::is_signed_v<Sign>, int8_t, uint8_t>;
template <class Sign>
using Half = std::conditional_t<std::is_signed_v<Sign>, int16_t, uint16_t>;
template <class A, class B>
struct Dp4a {
  using Made = DotBytes<Byte<A>, Byte<B>>;
};
template <class A, class B>
struct Dp2aLow {
  using Made = DotHalves<Half<A>, Byte<B>, 0>;
};
template <class A, class B>
struct Dp2aHigh {
  using Made = DotHalves<Half<A>, Byte<B>, 16>;
};

void select_dp4a(Form& form) { use_dot<Dp4a>(form); }
void select_dp2a(Form& form) {
  if (form.take("lo")) return use_dot<Dp2aLow>(form);
  form.need("hi");
  use_dot<Dp2aHigh>(form);
}

void select_one_float(Form& form) { select_float(form, form.take_type()); }

constexpr Entry kEntries[] = {
    {"add", select_sum<Add, AddSaturated>},
    {"sub", select_sum<Subtract, SubtractSaturated>},
    {"addc", select_carry},
    {"subc", select_carry},
    {"madc", select_carry},
    {"mul", select_mul},
    {"mad", select_mad},
    {"mul24", select_mul24},
    {"mad24", select_mad24},
    {"fma", select_fma},
    {"div", select_div},
    {"rem", select_rem},
    {"sad", select_sad},
    {"neg", select_neg},
    {"abs", select_abs},
    {"min", select_extremum<Minimum>},
    {"max", select_extremum<Maximum>},
    {"dp4a", select_dp4a},
    {"dp2a", select_dp2a},
    {"copysign", select_one_float},
    {"rcp", select_approximate},
    {"sqrt", select_approximate},
    {"rsqrt", select_approximate},
    {"sin", select_approximate},
    {"cos", select_approximate},
    {"lg2", select_approximate},
    {"ex2", select_approximate},
    {"tanh", select_approximate},
};

}  // namespace

std::span<const Entry> arithmetic_table() { return kEntries; }

}  // namespace foretoken::machine
