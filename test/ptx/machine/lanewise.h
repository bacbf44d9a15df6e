// Handlers that compute each lane's result from the same lane of the sources: most of the instruction set.
//
// An operation is a struct with a static apply(a, b, …). `lanewise<Op, D, S…>` is a plain loop over the 32 lanes that
// the compiler makes vectors of; lanes that do not execute are computed too (so apply must not trap) and not stored.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "machine.h"
#include "table.h"

namespace foretoken::machine {

// How a value lies in its row: 8- and 16-bit values in the low part of a 32-bit lane.
template <class T>
using Lane = std::conditional_t<(sizeof(T) < 4), uint32_t, T>;

template <class T>
Lane<T> to_lane(T value) {
  if constexpr (sizeof(T) < 4)
    return static_cast<std::make_unsigned_t<T>>(value);
  else
    return value;
}

// --- what is undefined in the result (Instruction::propagate)

// Any undefined bit in a lane's sources makes the lane's whole result undefined.
void poison(Context& c, const Instruction& i);
// The same for each half of packed 16-bit values.
void poison_halves(Context& c, const Instruction& i);
// First source's shadow.
void propagate_copy(Context& c, const Instruction& i);
// Bit by bit for and, or, xor, not, lop3 with the truth table in parameter[0] (as lop3's immLut; missing sources are
// 0): a result bit is undefined if it depends on an undefined bit, given the others.
void propagate_logic(Context& c, const Instruction& i);

// Where the operation moves bits about under the control of some sources (bit k of Control: source k): undefined
// control poisons, otherwise the shadow of the data is moved in the same way.
template <class Op, unsigned Control, class D, class... S>
void propagate_moved(Context& c, const Instruction& i) {
  [&]<size_t... K>(std::index_sequence<K...>) {
    Mask bad = 0;
    ((bad |= Control >> K & 1 ? c.undefined(i[K + 1]) : 0), ...);
    const std::tuple sources{Control >> K & 1 ? c.source<Lane<S>>(i[K + 1]) : c.shadow<Lane<S>>(i[K + 1])...};
    alignas(64) Lane<D> result[kLanes];
    for (int lane = 0; lane < kLanes; ++lane)
      result[lane] = bad >> lane & 1
                         ? static_cast<Lane<D>>(~Lane<D>{0})
                         : to_lane<D>(static_cast<D>(Op::apply(static_cast<S>(std::get<K>(sources)[lane])...)));
    c.set_shadow(i[0], result);
  }(std::index_sequence_for<S...>{});
}

// --- the loop

template <class Op, class D, class... S>
Outcome lanewise(Context& c, const Instruction& i) {
  [&]<size_t... K>(std::index_sequence<K...>) {
    if ((c.states[kRegisterFile][i[0].index] | ... | c.states[i[K + 1].file][i[K + 1].index])) [[unlikely]] {
      if (c.defined(i[K + 1]...))
        c.set_undefined(i[0], 0);
      else
        i.propagate(c, i);
    }
    const std::tuple sources{c.source<Lane<S>>(i[K + 1])...};
    alignas(64) Lane<D> result[kLanes];
    for (int lane = 0; lane < kLanes; ++lane)
      result[lane] = to_lane<D>(static_cast<D>(Op::apply(static_cast<S>(std::get<K>(sources)[lane])...)));
    c.blend(c.target<Lane<D>>(i[0]), result);
  }(std::index_sequence_for<S...>{});
  return Outcome::next;
}

// Operand k of the instruction must be a row whose lanes have that many bits.
inline void expect_row(Form& form, int flat_operand, uint32_t bits, bool may_be_sink = false) {
  if (flat_operand >= form.instruction.operand_count) form.refuse("too few operands");
  const Operand& o = form.instruction[flat_operand];
  if (o.kind == OperandKind::sink && may_be_sink) return;
  if (o.kind != OperandKind::row) form.refuse("operand " + std::to_string(flat_operand + 1) + " is not a register");
  if (o.bits != bits) form.refuse("operand " + std::to_string(flat_operand + 1) + " has the wrong width");
}

inline void expect_predicate(Form& form, int flat_operand) {
  const OperandKind kind = form.instruction[flat_operand].kind;
  if (kind != OperandKind::predicate && kind != OperandKind::sink) form.refuse("a predicate is expected");
}

// Chooses lanewise<Op, D, S…> after a look at the operands. Constants must have been made.
template <class Op, class D, class... S>
void use_lanewise(Form& form, Propagate propagate = poison) {
  if (form.instruction.operand_count != 1 + sizeof...(S)) form.refuse("wrong number of operands");
  expect_row(form, 0, 8 * sizeof(Lane<D>), true);
  int k = 1;
  (expect_row(form, k++, 8 * sizeof(Lane<S>)), ...);
  form.instruction.propagate = propagate;
  form.use(lanewise<Op, D, S...>);
}

// Calls use(T{}) with the C++ type of an integer type; .b types count as unsigned.
template <class F>
void with_integer(Form& form, ptx::Type type, F&& use) {
  switch (type) {
    case ptx::Type::b16:
    case ptx::Type::u16: return use(uint16_t{});
    case ptx::Type::s16: return use(int16_t{});
    case ptx::Type::b32:
    case ptx::Type::u32: return use(uint32_t{});
    case ptx::Type::s32: return use(int32_t{});
    case ptx::Type::b64:
    case ptx::Type::u64: return use(uint64_t{});
    case ptx::Type::s64: return use(int64_t{});
    default: form.unknown();
  }
}

}  // namespace foretoken::machine
