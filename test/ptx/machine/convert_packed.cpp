// cvt to and from pairs of narrow floats, to tf32, and cvt.pack of integers.
#include <algorithm>
#include <array>
#include <optional>

#include "convert.h"
#include "lanewise.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// --- pairs

template <class Half, bool Relu>
struct ToHalves {
  static uint32_t apply(float high, float low) {
    return ToHalf<Half, Relu>::apply(low) | uint32_t{ToHalf<Half, Relu>::apply(high)} << 16;
  }
};

// The first source is the upper half.
void poison_each_half(Context& c, const Instruction& i) {
  const Mask high = c.undefined(i[1]), low = c.undefined(i[2]);
  uint32_t shadow[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    shadow[lane] = (high >> lane & 1 ? 0xffff0000u : 0) | (low >> lane & 1 ? 0xffffu : 0);
  c.set_shadow(i[0], shadow);
}

enum class Pair : uint8_t { f16x2, bf16x2, e4m3x2, e5m2x2 };
constexpr Format kElement[] = {kF16, kBf16, kE4m3, kE5m2};

struct PairConversion {
  Conversion how;
  Pair to = Pair::f16x2;
  std::optional<Pair> from;  // none: two f32 registers
};

uint32_t element_bits(Pair pair) { return pair == Pair::f16x2 || pair == Pair::bf16x2 ? 16 : 8; }

uint32_t convert_element(long double x, const PairConversion& plan) {
  if (plan.how.relu) x = x != x || x > 0 ? x : 0.0L;
  const Format& format = kElement[static_cast<size_t>(plan.to)];
  return static_cast<uint32_t>(encode(x, format, plan.how.rounding, Nearest::even, plan.how.satfinite));
}

Outcome convert_pair(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index] | c.states[i[2].file][i[2].index]) [[unlikely]]
    poison_each_half(c, i);
  const auto& plan = *static_cast<const PairConversion*>(i.plan);
  const float *high = c.source<float>(i[1]), *low = c.source<float>(i[2]);
  uint32_t result[kLanes] = {};
  for (int lane : each(c.lanes))
    result[lane] = convert_element(low[lane], plan) | convert_element(high[lane], plan) << element_bits(plan.to);
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

Outcome convert_packed(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  const auto& plan = *static_cast<const PairConversion*>(i.plan);
  const uint32_t* source = c.source<uint32_t>(i[1]);
  const Format& format = kElement[static_cast<size_t>(*plan.from)];
  const uint32_t bits = element_bits(*plan.from), mask = (1u << bits) - 1;
  uint32_t result[kLanes] = {};
  for (int lane : each(c.lanes)) {
    const double low = decode_float(source[lane] & mask, format),
                 high = decode_float(source[lane] >> bits & mask, format);
    result[lane] = convert_element(low, plan) | convert_element(high, plan) << element_bits(plan.to);
  }
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

std::optional<Pair> take_pair(Form& form) {
  // In the order written: the first is the destination.
  constexpr std::array<std::string_view, 4> kNames = {"f16x2", "bf16x2", "e4m3x2", "e5m2x2"};
  for (std::string_view modifier : form.statement.modifiers)
    for (size_t k = 0; k < kNames.size(); ++k)
      if (modifier == kNames[k] && form.take(modifier)) return static_cast<Pair>(k);
  return std::nullopt;
}

}  // namespace

bool has_pair(const Form& form) {
  return form.statement.has("f16x2") || form.statement.has("bf16x2") || form.statement.has("e4m3x2") ||
         form.statement.has("e5m2x2");
}

namespace {

// --- tf32: an f32 register whose low 13 bits are zero

Outcome convert_tf32(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    poison(c, i);
  const auto& how = *static_cast<const Conversion*>(i.plan);
  const float* source = c.source<float>(i[1]);
  uint32_t result[kLanes] = {};
  for (int lane : each(c.lanes)) {
    const float x = how.relu && !(source[lane] != source[lane] || source[lane] > 0) ? 0.0f : source[lane];
    result[lane] = static_cast<uint32_t>(encode(x, kTf32, how.rounding, how.ties, how.satfinite)) << 13;
    if (x != x) result[lane] = kCanonicalNan;
  }
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

// --- cvt.pack.sat.type.s32 d, a, b{, c}

Outcome convert_pack(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index] | c.states[i[2].file][i[2].index] |
      (i.operand_count == 4 ? c.states[i[3].file][i[3].index] : 0)) [[unlikely]]
    poison(c, i);
  const int bits = static_cast<int>(i.parameter[0]);
  const bool is_signed_type = i.parameter[1] != 0;
  const int32_t least = is_signed_type ? -(1 << (bits - 1)) : 0, most = (1 << (is_signed_type ? bits - 1 : bits)) - 1;
  const uint32_t mask = (1u << bits) - 1;
  const int32_t *a = c.source<int32_t>(i[1]), *b = c.source<int32_t>(i[2]);
  uint32_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    result[lane] = (static_cast<uint32_t>(std::clamp(b[lane], least, most)) & mask) |
                   (static_cast<uint32_t>(std::clamp(a[lane], least, most)) & mask) << bits;
  if (i.operand_count == 4) {
    const uint32_t* rest = c.source<uint32_t>(i[3]);
    for (int lane = 0; lane < kLanes; ++lane) result[lane] |= rest[lane] << (2 * bits);
  }
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

}  // namespace

void select_pair(Form& form, const Conversion& how) {
  PairConversion plan;
  plan.to = *take_pair(form);
  plan.from = take_pair(form);
  plan.how = how;
  if (!plan.from && form.take_type() != Type::f32) form.unknown();
  form.constants(Type::f32);
  const bool plain = how.rounding == Rounding::nearest && !how.satfinite && !plan.from;
  if (plain && plan.to == Pair::f16x2)
    return how.relu ? use_lanewise<ToHalves<F16, true>, uint32_t, float, float>(form, poison_each_half)
                    : use_lanewise<ToHalves<F16, false>, uint32_t, float, float>(form, poison_each_half);
  if (plain && plan.to == Pair::bf16x2)
    return how.relu ? use_lanewise<ToHalves<Bf16, true>, uint32_t, float, float>(form, poison_each_half)
                    : use_lanewise<ToHalves<Bf16, false>, uint32_t, float, float>(form, poison_each_half);
  form.expect_operands(plan.from ? 2 : 3, plan.from ? 2 : 3);
  for (int k = 0; k < form.operand_count(); ++k) expect_row(form, k, 32, k == 0);
  form.instruction.plan = form.keep(plan);
  form.use(plan.from ? convert_packed : convert_pair);
}

void select_tf32(Form& form, const Conversion& how) {
  if (form.take_type() != Type::f32) form.unknown();
  form.constants(Type::f32);
  form.expect_operands(2, 2);
  expect_row(form, 0, 32, true);
  expect_row(form, 1, 32);
  form.instruction.plan = form.keep(how);
  form.use(convert_tf32);
}

void select_pack(Form& form) {
  form.need("sat");
  constexpr uint32_t kBitsOf[] = {16, 16, 8, 8, 4, 4, 2, 2};
  const int type = form.take_one({"u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"});
  if (type < 0) form.unknown();
  form.need("s32");
  const bool has_rest = form.take("b32");
  if (has_rest != (type >= 2)) form.unknown();
  form.constants(Type::b32);
  form.expect_operands(has_rest ? 4 : 3, has_rest ? 4 : 3);
  for (int k = 0; k < form.operand_count(); ++k) expect_row(form, k, 32, k == 0);
  form.instruction.parameter[0] = kBitsOf[type];
  form.instruction.parameter[1] = type & 1;
  form.use(convert_pack);
}

}  // namespace foretoken::machine
