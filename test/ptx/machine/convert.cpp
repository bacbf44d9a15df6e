// cvt: single values. Pairs and packed results are in convert_packed.cpp.
//
// Any conversion of PTX is `convert_any`: decode the source exactly, round once, encode. The common ones have a plain
// loop of their own beside it, which the tests hold against it.
#include "convert.h"

#include <array>
#include <limits>
#include <optional>

#include "integer.h"
#include "lanewise.h"
#include "narrow.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// --- any conversion

const Format* format_of(Type type) {
  switch (type) {
    case Type::f16: return &kF16;
    case Type::bf16: return &kBf16;
    case Type::f32: return &kF32;
    case Type::f64: return &kF64;
    default: return nullptr;
  }
}

bool is_signed_integer(Type t) { return t == Type::s8 || t == Type::s16 || t == Type::s32 || t == Type::s64; }

long double round_to_integer(long double x, Rounding rounding) {
  switch (rounding) {
    case Rounding::down: return std::floor(x);
    case Rounding::up: return std::ceil(x);
    case Rounding::zero: return std::trunc(x);
    default: return std::nearbyint(x);
  }
}

long double decode_any(uint64_t raw, const Conversion& how) {
  const int bits = ptx::type_bits(how.from);
  if (const Format* format = format_of(how.from)) {
    if (how.ftz && how.from == Type::f32)
      raw = std::bit_cast<uint32_t>(flush(std::bit_cast<float>(static_cast<uint32_t>(raw))));
    return decode_float(bits == 64 ? raw : raw & ((uint64_t{1} << bits) - 1), *format);
  }
  const int unused = 64 - bits;
  if (is_signed_integer(how.from)) return static_cast<int64_t>(raw << unused) >> unused;
  return static_cast<uint64_t>(raw << unused) >> unused;
}

// NaN is 0 unless 64 bits are involved; everything else clamps.
uint64_t encode_integer(long double x, const Conversion& how) {
  const int bits = ptx::type_bits(how.to);
  const bool negative_range = is_signed_integer(how.to);
  if (x != x) return how.from == Type::f64 || bits == 64 ? uint64_t{1} << (bits - 1) : 0;
  const long double least = negative_range ? -std::ldexp(1.0L, bits - 1) : 0;
  const long double beyond = std::ldexp(1.0L, negative_range ? bits - 1 : bits);
  const long double clamped = std::min(std::max(x, least), beyond - 1);
  return negative_range ? static_cast<uint64_t>(static_cast<int64_t>(clamped)) : static_cast<uint64_t>(clamped);
}

// Integers wrap unless .sat; the result is extended to the register by its sign.
uint64_t wrap_integer(uint64_t value, Type to) {
  const int unused = 64 - ptx::type_bits(to);
  if (is_signed_integer(to)) return static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused);
  return value << unused >> unused;
}

uint64_t convert_one(uint64_t raw, const Conversion& how) {
  long double x = decode_any(raw, how);
  const Format* to = format_of(how.to);
  if (!to) {
    if (how.integer_rounding) x = round_to_integer(x, *how.integer_rounding);
    if (format_of(how.from) || how.sat) return wrap_integer(encode_integer(x, how), how.to);
    const bool negative = x < 0;
    return wrap_integer(negative ? static_cast<uint64_t>(static_cast<int64_t>(x)) : static_cast<uint64_t>(x), how.to);
  }
  if (how.integer_rounding) x = round_to_integer(x, *how.integer_rounding);
  if (how.sat) x = x > 0 ? std::min(x, 1.0L) : 0.0L;
  if (how.relu) x = x != x || x > 0 ? x : 0.0L;
  uint64_t result = encode(x, *to, how.rounding, how.ties, how.satfinite);
  if (how.ftz && how.to == Type::f32)
    result = std::bit_cast<uint32_t>(flush(std::bit_cast<float>(static_cast<uint32_t>(result))));
  return result;
}

template <class To, class From>
Outcome convert_any(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  const auto& how = *static_cast<const Conversion*>(i.plan);
  const From* source = c.source<From>(i[1]);
  To result[kLanes] = {};
  for (int lane : each(c.lanes)) result[lane] = static_cast<To>(convert_one(source[lane], how));
  c.blend(c.target<To>(i[0]), result);
  return Outcome::next;
}

// --- plain loops

template <class D>
struct Resize {
  using Result = std::conditional_t<(sizeof(D) == 8), uint64_t, uint32_t>;
  template <class S>
  static Result apply(S a) {
    return static_cast<Result>(
        static_cast<std::conditional_t<std::is_signed_v<D>, int64_t, uint64_t>>(static_cast<D>(a)));
  }
};

template <Rounding R, class T>
T rounded(T x) {
  if (R == Rounding::down) return std::floor(x);
  if (R == Rounding::up) return std::ceil(x);
  if (R == Rounding::zero) return std::trunc(x);
  return std::nearbyint(x);
}

template <class D, Rounding R>
struct ToInteger {
  template <class S>
  static D apply(S x) {
    const S whole = rounded<R>(x);
    const S beyond = static_cast<S>(std::numeric_limits<D>::max() / 2 + 1) * 2;
    const S least = static_cast<S>(std::numeric_limits<D>::min());
    const D nan = sizeof(S) == 8 || sizeof(D) == 8 ? static_cast<D>(Modular<D>{1} << (kBits<D> - 1)) : D{0};
    const bool inside = whole >= least && whole < beyond;
    const D converted = static_cast<D>(inside ? whole : S{0});
    const D clamped = whole >= beyond ? std::numeric_limits<D>::max() : std::numeric_limits<D>::min();
    return x != x ? nan : inside ? converted : clamped;
  }
};
template <class D>
struct FromInteger {
  template <class S>
  static D apply(S a) {
    return static_cast<D>(a);
  }
};
template <Rounding R>
struct ToWhole {
  static float apply(float x) { return canonical(rounded<R>(x)); }
  static double apply(double x) { return rounded<R>(x); }
};
struct Narrow {
  static float apply(double x) { return canonical(static_cast<float>(x)); }
};
struct Widen {
  static double apply(float x) { return x; }
};
template <class Half>
struct FromHalf {
  static float apply(uint16_t x) { return canonical(Half::to_float(x)); }
};

template <class F>
void with_any_integer(Form& form, Type type, F&& use) {
  if (type == Type::u8 || type == Type::b8) return use(uint8_t{});
  if (type == Type::s8) return use(int8_t{});
  with_integer(form, type, use);
}

template <class F>
void with_float(Form& form, Type type, F&& use) {
  if (type == Type::f32) return use(float{});
  if (type == Type::f64) return use(double{});
  form.unknown();
}

void use_resize(Form& form, Type to, Type from) {
  with_any_integer(form, to, [&]<class D>(D) {
    with_any_integer(form, from, [&]<class S>(S) {
      using Result = typename Resize<D>::Result;
      use_lanewise<Resize<D>, Result, S>(form, propagate_moved<Resize<D>, 0, Result, S>);
    });
  });
}

template <class D, class S>
void use_to_integer(Form& form, Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest: return use_lanewise<ToInteger<D, Rounding::nearest>, D, S>(form);
    case Rounding::down: return use_lanewise<ToInteger<D, Rounding::down>, D, S>(form);
    case Rounding::up: return use_lanewise<ToInteger<D, Rounding::up>, D, S>(form);
    case Rounding::zero: return use_lanewise<ToInteger<D, Rounding::zero>, D, S>(form);
  }
}

template <class T>
void use_to_whole(Form& form, Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest: return use_lanewise<ToWhole<Rounding::nearest>, T, T>(form);
    case Rounding::down: return use_lanewise<ToWhole<Rounding::down>, T, T>(form);
    case Rounding::up: return use_lanewise<ToWhole<Rounding::up>, T, T>(form);
    case Rounding::zero: return use_lanewise<ToWhole<Rounding::zero>, T, T>(form);
  }
}

// Whether an operand's register has bits above its type: in a source they do not count, in a result they extend it.
bool is_wider(const Form& form, int operand, Type type) {
  if (operand >= form.instruction.operand_count) return false;
  const Operand& o = form.instruction[operand];
  return o.kind == OperandKind::row && o.bits == 64 && ptx::type_bits(type) < 64;
}

bool is_binary_float(Type t) { return t == Type::f32 || t == Type::f64; }
bool is_integer(Type t) { return !format_of(t); }

// A loop of its own for the conversion, if there is one.
bool use_common(Form& form, const Conversion& how) {
  const auto [from, to] = std::pair{how.from, how.to};
  const bool plain = !how.ftz && !how.sat && !how.satfinite && how.ties == Nearest::even;
  const bool nearest = how.rounding == Rounding::nearest;
  const bool whole_register = ptx::type_bits(to) >= 32;
  if (!plain || is_wider(form, 0, to) || is_wider(form, 1, from)) return false;
  if (is_integer(from) && is_integer(to)) return use_resize(form, to, from), true;
  if (is_binary_float(from) && is_integer(to) && whole_register && how.integer_rounding) {
    with_float(form, from, [&]<class S>(S) {
      with_integer(form, to, [&]<class D>(D) {
        if constexpr (sizeof(D) >= 4) use_to_integer<D, S>(form, *how.integer_rounding);
      });
    });
    return true;
  }
  if (is_integer(from) && is_binary_float(to)) {
    with_float(form, to, [&]<class D>(D) {
      with_any_integer(form, from, [&]<class S>(S) { use_rounded<FromInteger<D>, D, S>(form, how.rounding); });
    });
    return true;
  }
  if (from == to && is_binary_float(to) && how.integer_rounding) {
    with_float(form, to, [&]<class T>(T) { use_to_whole<T>(form, *how.integer_rounding); });
    return true;
  }
  if (how.integer_rounding) return false;
  if (from == Type::f64 && to == Type::f32) return use_rounded<Narrow, float, double>(form, how.rounding), true;
  if (from == Type::f32 && to == Type::f64) return use_lanewise<Widen, double, float>(form), true;
  if (from == Type::f16 && to == Type::f32) return use_lanewise<FromHalf<F16>, float, uint16_t>(form), true;
  if (from == Type::bf16 && to == Type::f32) return use_lanewise<FromHalf<Bf16>, float, uint16_t>(form), true;
  if (from != Type::f32 || !nearest) return false;
  if (to == Type::f16 && how.relu) return use_lanewise<ToHalf<F16, true>, uint16_t, float>(form), true;
  if (to == Type::f16) return use_lanewise<ToHalf<F16, false>, uint16_t, float>(form), true;
  if (to == Type::bf16 && how.relu) return use_lanewise<ToHalf<Bf16, true>, uint16_t, float>(form), true;
  if (to == Type::bf16) return use_lanewise<ToHalf<Bf16, false>, uint16_t, float>(form), true;
  return false;
}

void use_any(Form& form, const Conversion& how) {
  form.expect_operands(2, 2);
  const bool wide_to = ptx::type_bits(how.to) == 64 || is_wider(form, 0, how.to);
  const bool wide_from = ptx::type_bits(how.from) == 64 || is_wider(form, 1, how.from);
  expect_row(form, 0, wide_to ? 64 : 32, true);
  expect_row(form, 1, wide_from ? 64 : 32);
  form.instruction.plan = form.keep(how);
  if (wide_to) return form.use(wide_from ? convert_any<uint64_t, uint64_t> : convert_any<uint64_t, uint32_t>);
  form.use(wide_from ? convert_any<uint32_t, uint64_t> : convert_any<uint32_t, uint32_t>);
}

// --- selection

Conversion take_modifiers(Form& form) {
  Conversion how;
  switch (form.take_one({"rni", "rmi", "rpi", "rzi"})) {
    case 0: how.integer_rounding = Rounding::nearest; break;
    case 1: how.integer_rounding = Rounding::down; break;
    case 2: how.integer_rounding = Rounding::up; break;
    case 3: how.integer_rounding = Rounding::zero; break;
    default: break;
  }
  if (form.take("rna"))
    how.ties = Nearest::away;
  else
    how.rounding = take_rounding(form);
  how.ftz = form.take("ftz");
  how.sat = form.take("sat");
  how.relu = form.take("relu");
  how.satfinite = form.take("satfinite");
  return how;
}

void select_cvt(Form& form) {
  form.instruction.category = Class::convert;
  if (form.take("pack")) return select_pack(form);
  Conversion how = take_modifiers(form);
  if (has_pair(form)) return select_pair(form, how);
  if (form.take("tf32")) return select_tf32(form, how);
  how.to = form.take_type();
  how.from = form.take_type();
  form.constants(how.from);
  if (!format_of(how.from) && !format_of(how.to) && (how.integer_rounding || how.ftz)) form.unknown();
  if (format_of(how.from) && !format_of(how.to) && !how.integer_rounding)
    form.refuse("a rounding to an integer is missing");
  if (!use_common(form, how)) use_any(form, how);
}

constexpr Entry kEntries[] = {{"cvt", select_cvt}, {"cvta", select_cvta}, {"isspacep", select_isspacep}};

}  // namespace

std::span<const Entry> convert_table() { return kEntries; }

}  // namespace foretoken::machine
