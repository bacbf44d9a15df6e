// Comparisons, selections and moves.
#include <bit>
#include <cmath>

#include "floating.h"
#include "lanewise.h"
#include "narrow.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// --- comparisons of one lane

enum class Compare : uint8_t { eq, ne, lt, le, gt, ge, lo, ls, hi, hs, equ, neu, ltu, leu, gtu, geu, num, nan };

int take_compare(Form& form) {
  return form.take_one({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
                        "geu", "num", "nan"});
}

// Integers: lo, ls, hi, hs compare unsigned types like lt, le, gt, ge.
template <Compare C>
struct Comparison {
  template <class T>
  static bool apply(T a, T b) {
    constexpr bool unordered = C >= Compare::equ && C <= Compare::geu;
    if constexpr (std::is_floating_point_v<T>) {
      const bool nan = is_nan(a) || is_nan(b);
      if (C == Compare::num) return !nan;
      if (C == Compare::nan) return nan;
      if (C == Compare::ne) return !nan && a != b;
      if (unordered && nan) return true;
    }
    switch (C) {
      case Compare::eq:
      case Compare::equ: return a == b;
      case Compare::ne:
      case Compare::neu: return a != b;
      case Compare::lt:
      case Compare::lo:
      case Compare::ltu: return a < b;
      case Compare::le:
      case Compare::ls:
      case Compare::leu: return a <= b;
      case Compare::gt:
      case Compare::hi:
      case Compare::gtu: return a > b;
      default: return a >= b;
    }
  }
};

// How the lanes' values are read as numbers to compare.
template <class T>
struct Plain {
  using Raw = T;
  static T read(Lane<T> x) { return static_cast<T>(x); }
};
struct FlushedFloat {
  using Raw = float;
  static float read(float x) { return flush(x); }
};
template <class Format>
struct Low16 {
  using Raw = uint32_t;
  static float read(uint32_t x) { return Format::to_float(static_cast<uint16_t>(x)); }
};
template <class Format>
struct High16 {
  using Raw = uint32_t;
  static float read(uint32_t x) { return Format::to_float(static_cast<uint16_t>(x >> 16)); }
};

template <Compare C, class Reader>
Mask compare_lanes(const void* a_row, const void* b_row) {
  using Row = Lane<typename Reader::Raw>;
  const Row* a = static_cast<const Row*>(a_row);
  const Row* b = static_cast<const Row*>(b_row);
  alignas(64) uint32_t bit[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    bit[lane] = static_cast<uint32_t>(Comparison<C>::apply(Reader::read(a[lane]), Reader::read(b[lane]))) << lane;
  Mask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result |= bit[lane];
  return result;
}

using CompareRows = Mask (*)(const void*, const void*);

template <class Reader, size_t... C>
CompareRows compare_function(Compare compare, std::index_sequence<C...>) {
  static constexpr CompareRows kFunctions[] = {compare_lanes<static_cast<Compare>(C), Reader>...};
  return kFunctions[static_cast<size_t>(compare)];
}

template <class Reader>
CompareRows compare_function(Compare compare) {
  return compare_function<Reader>(compare, std::make_index_sequence<18>{});
}

bool fits(Compare c, bool floating, bool is_signed_type, bool is_bits) {
  if (c == Compare::eq || c == Compare::ne) return true;
  if (is_bits) return false;
  if (c <= Compare::ge) return true;
  if (c <= Compare::hs) return !floating && !is_signed_type;
  return floating;
}

// One comparison of two rows: packed types have a second, of the upper halves.
struct Comparing {
  CompareRows low = nullptr, high = nullptr;
  uint32_t lane_bits = 32;
};

Comparing take_comparison(Form& form) {
  const int which = take_compare(form);
  if (which < 0) form.refuse("a comparison is missing");
  const Compare c = static_cast<Compare>(which);
  const bool ftz = form.take("ftz");
  form.instruction.parameter[0] = static_cast<uint32_t>(which);
  // set's first type is the destination's: it has been taken before.
  const Type type = form.take_type();
  const bool bits = type == Type::b16 || type == Type::b32 || type == Type::b64;
  if (!fits(c, is_float(type) || is_half(type), is_signed(type), bits)) form.unknown();
  if (ftz && type != Type::f32 && type != Type::f16 && type != Type::f16x2) form.unknown();
  Comparing result;
  form.constants(type);
  switch (type) {
    case Type::f32: result.low = ftz ? compare_function<FlushedFloat>(c) : compare_function<Plain<float>>(c); break;
    case Type::f64: result.low = compare_function<Plain<double>>(c); break;
    case Type::f16:
    case Type::f16x2:
      result.low = ftz ? compare_function<Low16<FlushedF16>>(c) : compare_function<Low16<F16>>(c);
      if (type == Type::f16x2)
        result.high = ftz ? compare_function<High16<FlushedF16>>(c) : compare_function<High16<F16>>(c);
      break;
    case Type::bf16:
    case Type::bf16x2:
      result.low = compare_function<Low16<Bf16>>(c);
      if (type == Type::bf16x2) result.high = compare_function<High16<Bf16>>(c);
      break;
    default: with_integer(form, type, [&]<class T>(T) { result.low = compare_function<Plain<T>>(c); });
  }
  if (ptx::type_bits(type) == 64) result.lane_bits = 64;
  return result;
}

enum class Combine : uint32_t { none, logical_and, logical_or, logical_xor };

Combine take_combination(Form& form) { return static_cast<Combine>(form.take_one({"and", "or", "xor"}) + 1); }

// value op q, and what of it is undefined: a defined 0 decides an and, a defined 1 an or.
Predicate combine(Predicate value, Predicate q, Combine how) {
  switch (how) {
    case Combine::logical_and:
      return {value.value & q.value,
              (value.undefined & (q.undefined | q.value)) | (q.undefined & (value.undefined | value.value))};
    case Combine::logical_or:
      return {value.value | q.value,
              (value.undefined & (q.undefined | ~q.value)) | (q.undefined & (value.undefined | ~value.value))};
    case Combine::logical_xor: return {value.value ^ q.value, value.undefined | q.undefined};
    default: return value;
  }
}

Predicate read(const Context& c, const Operand& o) { return {c.predicate(o), c.predicate_undefined(o)}; }

struct ComparePlan {
  Comparing comparing;
  Combine combination = Combine::none;
  int a = 0;  // flat numbers
  int combined_with = -1;
};

// --- setp

// p|q: p = cmp op c, q = !cmp op c; packed: p of the low halves, q of the high.
Outcome setp(Context& c, const Instruction& i) {
  const auto& plan = *static_cast<const ComparePlan*>(i.plan);
  const Operand &a = i[plan.a], &b = i[plan.a + 1];
  const Mask undefined = c.undefined(a) | c.undefined(b);
  const void *a_row = c.source<uint8_t>(a), *b_row = c.source<uint8_t>(b);
  const Mask first = plan.comparing.low(a_row, b_row);
  Predicate p{first, undefined}, q{plan.comparing.high ? plan.comparing.high(a_row, b_row) : ~first, undefined};
  if (plan.combined_with >= 0) {
    const Predicate with = read(c, i[plan.combined_with]);
    p = combine(p, with, plan.combination);
    q = combine(q, with, plan.combination);
  }
  c.write_predicate(i[0], p.value, p.undefined);
  if (plan.a == 2) c.write_predicate(i[1], q.value, q.undefined);
  return Outcome::next;
}

// The commonest form, without its options.
Outcome setp_plain(Context& c, const Instruction& i) {
  const auto& plan = *static_cast<const ComparePlan*>(i.plan);
  c.write_predicate(i[0], plan.comparing.low(c.source<uint8_t>(i[1]), c.source<uint8_t>(i[2])),
                    c.undefined(i[1]) | c.undefined(i[2]));
  return Outcome::next;
}

void select_setp(Form& form) {
  form.instruction.category = Class::move;
  ComparePlan plan;
  plan.combination = take_combination(form);
  plan.comparing = take_comparison(form);
  plan.a = form.flat(1);
  form.instruction.results = static_cast<uint8_t>(plan.a);
  for (int k = 0; k < plan.a; ++k) expect_predicate(form, k);
  expect_row(form, plan.a, plan.comparing.lane_bits);
  expect_row(form, plan.a + 1, plan.comparing.lane_bits);
  form.expect_operands(plan.combination == Combine::none ? 3 : 4, plan.combination == Combine::none ? 3 : 4);
  if (plan.combination != Combine::none) {
    form.constant(3, Type::pred);
    plan.combined_with = form.flat(3);
    expect_predicate(form, plan.combined_with);
  }
  if (plan.comparing.high && plan.a != 2) form.refuse("packed comparisons have two results");
  form.instruction.plan = form.keep(plan);
  form.use(plan.a == 1 && plan.combination == Combine::none ? setp_plain : setp);
}

// --- set: all ones or 1.0 where true

Outcome set(Context& c, const Instruction& i) {
  const auto& plan = *static_cast<const ComparePlan*>(i.plan);
  const Operand &a = i[plan.a], &b = i[plan.a + 1];
  const Mask undefined = c.undefined(a) | c.undefined(b);
  const void *a_row = c.source<uint8_t>(a), *b_row = c.source<uint8_t>(b);
  Predicate low{plan.comparing.low(a_row, b_row), undefined};
  Predicate high{plan.comparing.high ? plan.comparing.high(a_row, b_row) : 0, undefined};
  if (plan.combined_with >= 0) {
    low = combine(low, read(c, i[plan.combined_with]), plan.combination);
    high = combine(high, read(c, i[plan.combined_with]), plan.combination);
  }
  uint32_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    result[lane] = (low.value >> lane & 1 ? i.parameter[1] : 0) | (high.value >> lane & 1 ? i.parameter[2] : 0);
  c.blend(c.target<uint32_t>(i[0]), result);
  c.set_undefined(i[0], low.undefined | (plan.comparing.high ? high.undefined : 0));
  return Outcome::next;
}

void select_set(Form& form) {
  form.instruction.category = Class::move;
  ComparePlan plan;
  plan.combination = take_combination(form);
  const Type result = form.take_type();
  plan.comparing = take_comparison(form);
  uint32_t& low = form.instruction.parameter[1];
  uint32_t& high = form.instruction.parameter[2];
  switch (result) {
    case Type::u32:
    case Type::s32: low = 0xffffffff; break;
    case Type::u16:
    case Type::s16: low = 0xffff; break;
    case Type::f32: low = 0x3f800000; break;
    case Type::f16: low = 0x3c00; break;
    case Type::bf16: low = 0x3f80; break;
    case Type::f16x2: low = 0x3c00, high = 0x3c000000; break;
    case Type::bf16x2: low = 0x3f80, high = 0x3f800000; break;
    default: form.unknown();
  }
  // set.u32.f16x2 fills each half.
  if (plan.comparing.high && high == 0) {
    if (low != 0xffffffff) form.unknown();
    low = 0xffff, high = 0xffff0000;
  }
  if (!plan.comparing.high && high != 0) form.unknown();
  plan.a = 1;
  expect_row(form, 0, 32, true);
  expect_row(form, 1, plan.comparing.lane_bits);
  expect_row(form, 2, plan.comparing.lane_bits);
  form.expect_operands(plan.combination == Combine::none ? 3 : 4, plan.combination == Combine::none ? 3 : 4);
  if (plan.combination != Combine::none) {
    form.constant(3, Type::pred);
    plan.combined_with = form.flat(3);
    expect_predicate(form, plan.combined_with);
  }
  form.instruction.plan = form.keep(plan);
  form.use(set);
}

// --- selp, slct

template <class T>
Outcome selp(Context& c, const Instruction& i) {
  const Mask choice = c.predicate(i[3]);
  const Mask unknown = c.predicate_undefined(i[3]) & c.lanes;
  if (!unknown && c.defined(i[1], i[2])) [[likely]] {
    c.set_defined(i[0]);
  } else {
    const T *a = c.shadow<T>(i[1]), *b = c.shadow<T>(i[2]);
    T result[kLanes];
    for (int lane = 0; lane < kLanes; ++lane)
      result[lane] = unknown >> lane & 1 ? static_cast<T>(~T{0}) : choice >> lane & 1 ? a[lane] : b[lane];
    c.set_shadow(i[0], result);
  }
  const T *a = c.source<T>(i[1]), *b = c.source<T>(i[2]);
  alignas(64) T result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = choice >> lane & 1 ? a[lane] : b[lane];
  c.blend(c.target<T>(i[0]), result);
  return Outcome::next;
}

void select_selp(Form& form) {
  form.instruction.category = Class::move;
  const Type type = form.take_type();
  form.expect_operands(4, 4);
  form.constants(type);
  form.constant(3, Type::pred);
  expect_predicate(form, 3);
  const uint32_t bits = ptx::type_bits(type) == 64 ? 64 : 32;
  expect_row(form, 0, bits, true);
  expect_row(form, 1, bits);
  expect_row(form, 2, bits);
  form.use(bits == 64 ? selp<uint64_t> : selp<uint32_t>);
}

template <bool Ftz>
struct SelectBySign {
  template <class T>
  static T apply(T a, T b, int32_t c) {
    return c >= 0 ? a : b;
  }
  template <class T>
  static T apply(T a, T b, float c) {
    return (Ftz ? flush(c) : c) >= 0 ? a : b;
  }
};

void select_slct(Form& form) {
  form.instruction.category = Class::move;
  const bool ftz = form.take("ftz");
  const Type type = form.take_type(), by = form.take_type();
  form.constants(type);
  form.constant(3, by);
  const auto use = [&]<class T>(T) {
    if (by == Type::s32 && !ftz) return use_lanewise<SelectBySign<false>, T, T, T, int32_t>(form);
    if (by != Type::f32) form.unknown();
    if (ftz) return use_lanewise<SelectBySign<true>, T, T, T, float>(form);
    use_lanewise<SelectBySign<false>, T, T, T, float>(form);
  };
  ptx::type_bits(type) == 64 ? use(uint64_t{}) : use(uint32_t{});
}

// --- testp

enum class Test : uint32_t { finite, infinite, number, notanumber, normal, subnormal };

template <class T>
bool passes(Test test, T x) {
  switch (test) {
    case Test::finite: return std::isfinite(x);
    case Test::infinite: return std::isinf(x);
    case Test::number: return !std::isnan(x);
    case Test::notanumber: return std::isnan(x);
    case Test::normal: return std::isnormal(x);
    case Test::subnormal: return std::fpclassify(x) == FP_SUBNORMAL || x == 0;
  }
  return false;
}

template <class T>
Outcome testp(Context& c, const Instruction& i) {
  const T* a = c.source<T>(i[1]);
  Mask result = 0;
  for (int lane : each(c.lanes))
    result |= static_cast<Mask>(passes(static_cast<Test>(i.parameter[0]), a[lane])) << lane;
  c.write_predicate(i[0], result, c.undefined(i[1]));
  return Outcome::next;
}

void select_testp(Form& form) {
  form.instruction.category = Class::move;
  const int test = form.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  if (test < 0) form.unknown();
  form.instruction.parameter[0] = static_cast<uint32_t>(test);
  const Type type = form.take_type();
  if (!is_float(type)) form.unknown();
  form.expect_operands(2, 2);
  form.constants(type);
  expect_predicate(form, 0);
  expect_row(form, 1, type == Type::f64 ? 64 : 32);
  form.use(type == Type::f64 ? testp<double> : testp<float>);
}

constexpr Entry kEntries[] = {{"setp", select_setp}, {"set", select_set},     {"selp", select_selp},
                              {"slct", select_slct}, {"testp", select_testp}, {"mov", select_mov}};

}  // namespace

std::span<const Entry> compare_table() { return kEntries; }

}  // namespace foretoken::machine
