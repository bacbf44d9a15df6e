// mov: registers, immediates, addresses, special registers; vectors packed into a register and taken apart.
#include "lanewise.h"
#include "select.h"
#include "special.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

struct Identity {
  template <class T>
  static T apply(T a) {
    return a;
  }
};

Outcome mov_predicate(Context& c, const Instruction& i) {
  c.write_predicate(i[0], c.predicate(i[1]), c.predicate_undefined(i[1]));
  return Outcome::next;
}

// mov.b32 d, {a, b}: parts of parameter[0] bits, the first in the low bits.
template <class D, class S>
void gather(D* result, const S* part, int shift, S limit) {
  for (int lane = 0; lane < kLanes; ++lane) result[lane] |= static_cast<D>(part[lane] & limit) << shift;
}

template <class D>
Outcome mov_pack(Context& c, const Instruction& i) {
  const int bits = static_cast<int>(i.parameter[0]);
  const int parts = i.operand_count - 1;
  alignas(64) D values[kLanes] = {}, shadows[kLanes] = {};
  Mask undefined = 0;
  for (int k = 0; k < parts; ++k) {
    const Operand& part = i[k + 1];
    undefined |= c.undefined(part);
    if (bits == 64)
      gather(values, c.source<uint64_t>(part), bits * k, ~uint64_t{0});
    else
      gather(values, c.source<uint32_t>(part), bits * k, bits == 32 ? ~0u : (1u << bits) - 1);
  }
  if (undefined & c.lanes) [[unlikely]] {
    for (int k = 0; k < parts; ++k) {
      if (bits == 64)
        gather(shadows, c.shadow<uint64_t>(i[k + 1]), bits * k, ~uint64_t{0});
      else
        gather(shadows, c.shadow<uint32_t>(i[k + 1]), bits * k, bits == 32 ? ~0u : (1u << bits) - 1);
    }
    c.set_shadow(i[0], shadows);
  } else {
    c.set_defined(i[0]);
  }
  c.blend(c.target<D>(i[0]), values);
  return Outcome::next;
}

// mov.b32 {a, b}, d.
template <class D, class S>
void scatter(Context& c, const Operand& part, const S* whole, const S* shadow, int shift, D limit) {
  alignas(64) D values[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = static_cast<D>(whole[lane] >> shift) & limit;
  c.blend(c.target<D>(part), values);
  if (!shadow) return c.set_defined(part);
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = static_cast<D>(shadow[lane] >> shift) & limit;
  c.set_shadow(part, values);
}

template <class S>
Outcome mov_unpack(Context& c, const Instruction& i) {
  const int bits = static_cast<int>(i.parameter[0]);
  const int parts = i.operand_count - 1;
  const Operand& from = i[parts];
  const S* whole = c.source<S>(from);
  const S* shadow = c.defined(from) ? nullptr : c.shadow<S>(from);
  for (int k = 0; k < parts; ++k) {
    if (i[k].kind == OperandKind::sink) continue;
    if (bits == 64)
      scatter<uint64_t>(c, i[k], whole, shadow, bits * k, ~uint64_t{0});
    else
      scatter<uint32_t>(c, i[k], whole, shadow, bits * k, bits == 32 ? ~0u : (1u << bits) - 1);
  }
  return Outcome::next;
}

void select_vector_mov(Form& form, bool pack, uint32_t bits) {
  const int parts = form.instruction.operand_count - 1;
  if (parts < 1) form.unknown();
  const uint32_t part_bits = bits / static_cast<uint32_t>(parts);
  form.instruction.parameter[0] = part_bits;
  form.instruction.results = static_cast<uint8_t>(pack ? 1 : parts);
  form.constants(part_bits == 64 ? Type::b64 : part_bits == 32 ? Type::b32 : part_bits == 16 ? Type::b16 : Type::b8);
  for (int k = 0; k < parts; ++k) expect_row(form, pack ? k + 1 : k, part_bits == 64 ? 64 : 32, !pack);
  expect_row(form, pack ? 0 : parts, bits == 16 ? 32 : bits);
  if (bits == 128) return form.use(pack ? mov_pack<unsigned __int128> : mov_unpack<unsigned __int128>);
  if (bits == 64) return form.use(pack ? mov_pack<uint64_t> : mov_unpack<uint64_t>);
  form.use(pack ? mov_pack<uint32_t> : mov_unpack<uint32_t>);
}

}  // namespace

void select_mov(Form& form) {
  form.instruction.category = Class::move;
  form.expect_operands(2, 2);
  const ptx::Operand &to = form.operand(0), &from = form.operand(1);
  if (form.take("pred")) {
    form.constants(Type::pred);
    expect_predicate(form, 0);
    expect_predicate(form, 1);
    return form.use(mov_predicate);
  }
  const Type type = form.take_type();
  if (from.kind == ptx::OperandKind::special) return select_special(form, type);
  const uint32_t bits = static_cast<uint32_t>(ptx::type_bits(type));
  if (from.kind == ptx::OperandKind::vector) return select_vector_mov(form, true, bits);
  if (to.kind == ptx::OperandKind::vector) return select_vector_mov(form, false, bits);
  form.constants(type);
  if (bits == 128) return use_lanewise<Identity, unsigned __int128, unsigned __int128>(form, poison);
  if (bits == 64) return use_lanewise<Identity, uint64_t, uint64_t>(form, propagate_copy);
  use_lanewise<Identity, uint32_t, uint32_t>(form, propagate_copy);
}

}  // namespace foretoken::machine
