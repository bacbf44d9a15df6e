#include "lanewise.h"

namespace foretoken::machine {

namespace {

Mask sources_undefined(const Context& c, const Instruction& i) {
  Mask bad = 0;
  for (int k = i.results; k < i.operand_count; ++k)
    if (i[k].kind != OperandKind::sink) bad |= c.undefined_any(i[k]);
  return bad;
}

}  // namespace

void poison(Context& c, const Instruction& i) {
  const Mask bad = sources_undefined(c, i);
  for (int k = 0; k < i.results; ++k) {
    if (i[k].kind == OperandKind::predicate)
      c.predicates[i[k].index].undefined = (c.predicates[i[k].index].undefined & ~c.lanes) | (bad & c.lanes);
    else
      c.set_undefined(i[k], bad);
  }
}

void poison_halves(Context& c, const Instruction& i) {
  uint32_t result[kLanes] = {};
  for (int k = i.results; k < i.operand_count; ++k) {
    const uint32_t* shadow = c.shadow<uint32_t>(i[k]);
    for (int lane = 0; lane < kLanes; ++lane)
      result[lane] |= (shadow[lane] & 0xffff ? 0xffffu : 0) | (shadow[lane] >> 16 ? 0xffff0000u : 0);
  }
  c.set_shadow(i[0], result);
}

void propagate_copy(Context& c, const Instruction& i) {
  const RowState state = c.state(i[1]);
  if (c.whole() && (state == RowState::defined || state == RowState::undefined)) {
    c.set_undefined(i[0], state == RowState::undefined ? c.lanes : 0);
    return;
  }
  if (i[0].bits == 64)
    c.set_shadow(i[0], c.shadow<uint64_t>(i[1]));
  else
    c.set_shadow(i[0], c.shadow<uint32_t>(i[1]));
}

namespace {

template <class T>
void propagate_logic_of(Context& c, const Instruction& i) {
  const uint32_t table = i.parameter[0];
  const T* values[3] = {};
  const T* shadows[3] = {};
  for (int k = 0; k < 3 && k + 1 < i.operand_count && i[k + 1].kind == OperandKind::row; ++k) {
    values[k] = c.source<T>(i[k + 1]);
    shadows[k] = c.shadow<T>(i[k + 1]);
  }
  T result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    T can_be_0 = 0, can_be_1 = 0;
    for (unsigned row = 0; row < 8; ++row) {
      T possible = static_cast<T>(~T{0});
      for (int k = 0; k < 3; ++k) {
        const T value = values[k] ? values[k][lane] : 0, shadow = shadows[k] ? shadows[k][lane] : 0;
        possible &= static_cast<T>((row >> (2 - k) & 1 ? value : ~value) | shadow);
      }
      (table >> row & 1 ? can_be_1 : can_be_0) |= possible;
    }
    result[lane] = can_be_0 & can_be_1;
  }
  c.set_shadow(i[0], result);
}

}  // namespace

void propagate_logic(Context& c, const Instruction& i) {
  if (i[0].bits == 64)
    propagate_logic_of<uint64_t>(c, i);
  else
    propagate_logic_of<uint32_t>(c, i);
}

}  // namespace foretoken::machine
