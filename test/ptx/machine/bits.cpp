// Logic, shifts, bit fields, byte permutation, bit counting.
#include "bits.h"

#include "lanewise.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// --- lop3

// Bit by bit the truth table in parameter[0] of a, b, c.
void lop3_values(Context& c, const Instruction& i, int first, uint32_t* result) {
  const uint32_t *a = c.source<uint32_t>(i[first]), *b = c.source<uint32_t>(i[first + 1]),
                 *d = c.source<uint32_t>(i[first + 2]);
  const uint32_t table = i.parameter[0];
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = 0;
  for (uint32_t row = 0; row < 8; ++row) {
    if (!(table >> row & 1)) continue;
    const uint32_t na = row & 4 ? 0 : ~0u, nb = row & 2 ? 0 : ~0u, nd = row & 1 ? 0 : ~0u;
    for (int lane = 0; lane < kLanes; ++lane) result[lane] |= (a[lane] ^ na) & (b[lane] ^ nb) & (d[lane] ^ nd);
  }
}

Outcome lop3(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index] | c.states[i[2].file][i[2].index] |
      c.states[i[3].file][i[3].index]) [[unlikely]] {
    if (c.defined(i[1], i[2], i[3]))
      c.set_undefined(i[0], 0);
    else
      propagate_logic(c, i);
  }
  alignas(64) uint32_t result[kLanes];
  lop3_values(c, i, 1, result);
  c.blend(c.target<uint32_t>(i[0]), result);
  return Outcome::next;
}

// lop3.BoolOp.b32 d|p, a, b, c, immLut, q: p = (d != 0) BoolOp q.
Outcome lop3_predicate(Context& c, const Instruction& i) {
  alignas(64) uint32_t result[kLanes];
  lop3_values(c, i, 2, result);
  const Mask undefined = c.undefined(i[2]) | c.undefined(i[3]) | c.undefined(i[4]);
  Mask p = 0;
  for (int lane = 0; lane < kLanes; ++lane) p |= static_cast<Mask>(result[lane] != 0) << lane;
  const Operand& q = i[6];
  const Mask value = i.parameter[1] ? p | c.predicate(q) : p & c.predicate(q);
  if (i[0].kind != OperandKind::sink) {
    c.blend(c.target<uint32_t>(i[0]), result);
    c.set_undefined(i[0], undefined);
  }
  c.write_predicate(i[1], value, undefined | c.predicate_undefined(q));
  return Outcome::next;
}

void integer_class(Form& form) { form.instruction.category = Class::integer; }

uint32_t table_of(Form& form, int statement_operand) {
  return static_cast<uint32_t>(ptx::immediate_bits(form.operand(statement_operand), Type::b32)) & 0xff;
}

void select_lop3(Form& form) {
  integer_class(form);
  const int combination = form.take_one({"and", "or"});
  form.need("b32");
  form.constants(Type::b32);
  form.instruction.parameter[0] = table_of(form, 4);
  if (combination < 0) {
    form.expect_operands(5, 5);
    for (int k = 0; k < 4; ++k) expect_row(form, k, 32, k == 0);
    form.instruction.operand_count = 4;
    return form.use(lop3);
  }
  form.expect_operands(6, 6);
  form.constant(5, Type::pred);
  form.instruction.parameter[1] = static_cast<uint32_t>(combination);
  form.instruction.results = 2;
  expect_row(form, 0, 32, true);
  for (int k = 2; k < 5; ++k) expect_row(form, k, 32);
  form.use(lop3_predicate);
}

// --- logic

// Calls use(T{}) with the C++ type of a .b type.
template <class F>
void with_bits(Form& form, Type type, F&& use) {
  switch (type) {
    case Type::b16: return use(uint16_t{});
    case Type::b32: return use(uint32_t{});
    case Type::b64: return use(uint64_t{});
    default: form.unknown();
  }
}

template <class Op>
Outcome predicate_logic(Context& c, const Instruction& i) {
  const Mask a = c.predicate(i[1]), ua = c.predicate_undefined(i[1]);
  if constexpr (requires { Op::apply(a); }) {
    c.write_predicate(i[0], Op::apply(a), ua);
  } else {
    const Mask b = c.predicate(i[2]), ub = c.predicate_undefined(i[2]);
    // Undefined where another value of the undefined inputs would give another result.
    const Mask value = Op::apply(a, b);
    const Mask changes =
        (ua & (value ^ Op::apply(~a, b))) | (ub & (value ^ Op::apply(a, ~b))) | (ua & ub & (value ^ Op::apply(~a, ~b)));
    c.write_predicate(i[0], value, changes);
  }
  return Outcome::next;
}

// Truth tables as lop3's, of a = 0xf0 and b = 0xcc.
template <class Op, uint32_t Table>
void select_logic(Form& form) {
  constexpr bool kUnary = Table == 0x0f;
  integer_class(form);
  form.instruction.parameter[0] = Table;
  const Type type = form.take_type();
  form.constants(type);
  if (type == Type::pred) {
    form.instruction.category = Class::move;
    form.expect_operands(kUnary ? 2 : 3, kUnary ? 2 : 3);
    return form.use(predicate_logic<Op>);
  }
  with_bits(form, type, [&]<class T>(T) {
    if constexpr (kUnary)
      use_lanewise<Op, T, T>(form, propagate_logic);
    else
      use_lanewise<Op, T, T, T>(form, propagate_logic);
  });
}

void select_cnot(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constants(type);
  with_bits(form, type, [&]<class T>(T) { use_lanewise<IsZero, T, T>(form); });
}

// --- shifts and fields: the shadow moves with the value

template <class Op, class T>
void use_shift(Form& form) {
  use_lanewise<Op, T, T, uint32_t>(form, propagate_moved<Op, 0b10, T, T, uint32_t>);
}

Type shift_constants(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constant(1, type);
  form.constant(2, Type::u32);
  return type;
}

void select_shl(Form& form) {
  with_bits(form, shift_constants(form), [&]<class T>(T) { use_shift<ShiftLeft, T>(form); });
}
void select_shr(Form& form) {
  with_integer(form, shift_constants(form), [&]<class T>(T) { use_shift<ShiftRight, T>(form); });
}

void select_shf(Form& form) {
  integer_class(form);
  const bool left = form.take("l");
  if (!left) form.need("r");
  const bool clamp = form.take("clamp");
  if (!clamp) form.need("wrap");
  form.need("b32");
  form.constants(Type::b32);
  using U = uint32_t;
  const auto use = [&]<class Op>(Op) { use_lanewise<Op, U, U, U, U>(form, propagate_moved<Op, 0b100, U, U, U, U>); };
  if (left) return clamp ? use(FunnelShift<true, true>{}) : use(FunnelShift<true, false>{});
  clamp ? use(FunnelShift<false, true>{}) : use(FunnelShift<false, false>{});
}

void select_bfe(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constant(1, type);
  form.constant(2, Type::u32);
  form.constant(3, Type::u32);
  if (ptx::type_bits(type) < 32) form.unknown();
  with_integer(form, type, [&]<class T>(T) {
    if constexpr (sizeof(T) >= 4)
      use_lanewise<ExtractField, T, T, uint32_t, uint32_t>(
          form, propagate_moved<ExtractField, 0b110, T, T, uint32_t, uint32_t>);
  });
}

void select_bfi(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constant(1, type);
  form.constant(2, type);
  form.constant(3, Type::u32);
  form.constant(4, Type::u32);
  const auto use = [&]<class T>(T) {
    use_lanewise<InsertField, T, T, T, uint32_t, uint32_t>(
        form, propagate_moved<InsertField, 0b1100, T, T, T, uint32_t, uint32_t>);
  };
  if (type == Type::b32) return use(uint32_t{});
  if (type == Type::b64) return use(uint64_t{});
  form.unknown();
}

void select_bmsk(Form& form) {
  integer_class(form);
  const bool clamp = form.take("clamp");
  if (!clamp) form.need("wrap");
  form.need("b32");
  form.constants(Type::b32);
  clamp ? use_lanewise<BitMask<true>, uint32_t, uint32_t, uint32_t>(form)
        : use_lanewise<BitMask<false>, uint32_t, uint32_t, uint32_t>(form);
}

void select_szext(Form& form) {
  integer_class(form);
  const bool clamp = form.take("clamp");
  if (!clamp) form.need("wrap");
  const Type type = form.take_type();
  form.constants(Type::b32);
  using U = uint32_t;
  if (type == Type::s32)
    return clamp ? use_lanewise<ExtendSign<true, true>, U, U, U>(form)
                 : use_lanewise<ExtendSign<true, false>, U, U, U>(form);
  if (type != Type::u32) form.unknown();
  clamp ? use_lanewise<ExtendSign<false, true>, U, U, U>(form) : use_lanewise<ExtendSign<false, false>, U, U, U>(form);
}

void select_prmt(Form& form) {
  integer_class(form);
  form.need("b32");
  form.constants(Type::b32);
  using U = uint32_t;
  const auto use = [&]<class Op>(Op) { use_lanewise<Op, U, U, U, U>(form, propagate_moved<Op, 0b100, U, U, U, U>); };
  switch (form.take_one({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"})) {
    case 0: return use(PermuteBytes<Forward4>{});
    case 1: return use(PermuteBytes<Backward4>{});
    case 2: return use(PermuteBytes<Replicate8>{});
    case 3: return use(PermuteBytes<EdgeLeft>{});
    case 4: return use(PermuteBytes<EdgeRight>{});
    case 5: return use(PermuteBytes<Replicate16>{});
    default: return use(Permute{});
  }
}

// --- counting: the result is u32

template <class Op>
void use_count(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constants(type);
  if (type == Type::b32) return use_lanewise<Op, uint32_t, uint32_t>(form);
  if (type != Type::b64) form.unknown();
  use_lanewise<Op, uint32_t, uint64_t>(form);
}

void select_popc(Form& form) { use_count<PopulationCount>(form); }
void select_clz(Form& form) { use_count<LeadingZeros>(form); }

void select_brev(Form& form) {
  integer_class(form);
  const Type type = form.take_type();
  form.constants(type);
  if (type == Type::b32)
    return use_lanewise<Reverse, uint32_t, uint32_t>(form, propagate_moved<Reverse, 0, uint32_t, uint32_t>);
  if (type != Type::b64) form.unknown();
  use_lanewise<Reverse, uint64_t, uint64_t>(form, propagate_moved<Reverse, 0, uint64_t, uint64_t>);
}

template <bool ShiftAmount>
void use_bfind(Form& form, Type type) {
  switch (type) {
    case Type::u32: return use_lanewise<FindBit<ShiftAmount>, uint32_t, uint32_t>(form);
    case Type::s32: return use_lanewise<FindBit<ShiftAmount>, uint32_t, int32_t>(form);
    case Type::u64: return use_lanewise<FindBit<ShiftAmount>, uint32_t, uint64_t>(form);
    case Type::s64: return use_lanewise<FindBit<ShiftAmount>, uint32_t, int64_t>(form);
    default: form.unknown();
  }
}

void select_bfind(Form& form) {
  integer_class(form);
  const bool shift_amount = form.take("shiftamt");
  const Type type = form.take_type();
  form.constants(type);
  shift_amount ? use_bfind<true>(form, type) : use_bfind<false>(form, type);
}

void select_fns(Form& form) {
  integer_class(form);
  form.need("b32");
  form.constants(Type::b32);
  use_lanewise<FindNthSet, uint32_t, uint32_t, uint32_t, int32_t>(form);
}

constexpr Entry kEntries[] = {
    {"and", select_logic<And, 0xc0>},
    {"or", select_logic<Or, 0xfc>},
    {"xor", select_logic<Xor, 0x3c>},
    {"not", select_logic<Not, 0x0f>},
    {"cnot", select_cnot},
    {"lop3", select_lop3},
    {"shl", select_shl},
    {"shr", select_shr},
    {"shf", select_shf},
    {"bfe", select_bfe},
    {"bfi", select_bfi},
    {"bmsk", select_bmsk},
    {"szext", select_szext},
    {"prmt", select_prmt},
    {"popc", select_popc},
    {"clz", select_clz},
    {"brev", select_brev},
    {"bfind", select_bfind},
    {"fns", select_fns},
};

}  // namespace

std::span<const Entry> bit_table() { return kEntries; }

}  // namespace foretoken::machine
