// cvta, isspacep: generic addresses are windows on the state spaces.
#include "convert.h"
#include "lanewise.h"

namespace foretoken::machine {

namespace {

Outcome cvta(Context& c, const Instruction& i) {
  if (c.states[0][i[0].index] | c.states[i[1].file][i[1].index]) [[unlikely]]
    propagate_copy(c, i);
  const uint64_t offset = uint64_t{i.parameter[0]} | uint64_t{i.parameter[1]} << 32;
  const uint64_t* source = c.source<uint64_t>(i[1]);
  uint64_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = source[lane] + offset;
  c.blend(c.target<uint64_t>(i[0]), result);
  return Outcome::next;
}

uint64_t window(int space) {
  switch (space) {
    case 0: return kLocalWindow;
    case 1:
    case 2:
    case 3: return kSharedWindow;
    case 4:
    case 5: return kParameterWindow;
    default: return 0;
  }
}

int take_space(Form& form) {
  return form.take_one(
      {"local", "shared", "shared::cta", "shared::cluster", "param", "param::entry", "global", "const"});
}

Outcome isspacep(Context& c, const Instruction& i) {
  const uint64_t* address = c.source<uint64_t>(i[1]);
  Mask result = 0;
  for (int lane : each(c.lanes)) {
    const uint64_t a = address[lane];
    bool inside = false;
    switch (i.parameter[0]) {
      case 0: inside = is_local(a); break;
      case 1:
      case 2: inside = is_shared(a) && (a - kSharedWindow) >> kSharedRankShift == c.block->rank; break;
      case 3: inside = is_shared(a); break;
      case 4:
      case 5: inside = c.launch->parameters->contains(a); break;
      default: inside = !is_shared(a) && !is_local(a) && !c.launch->parameters->contains(a);
    }
    result |= static_cast<Mask>(inside) << lane;
  }
  c.write_predicate(i[0], result, c.undefined(i[1]));
  return Outcome::next;
}

}  // namespace

void select_cvta(Form& form) {
  form.instruction.category = Class::integer;
  const bool to = form.take("to");
  const int space = take_space(form);
  if (space < 0) form.unknown();
  form.need("u64");
  form.constants(ptx::Type::u64);
  form.expect_operands(2, 2);
  expect_row(form, 0, 64);
  expect_row(form, 1, 64);
  const uint64_t offset = to ? uint64_t{0} - window(space) : window(space);
  form.instruction.parameter[0] = static_cast<uint32_t>(offset);
  form.instruction.parameter[1] = static_cast<uint32_t>(offset >> 32);
  form.use(cvta);
}

void select_isspacep(Form& form) {
  form.instruction.category = Class::integer;
  const int space = take_space(form);
  if (space < 0 || space == 7) form.unknown();
  form.instruction.parameter[0] = static_cast<uint32_t>(space);
  form.constants(ptx::Type::u64);
  form.expect_operands(2, 2);
  if (form.instruction[0].kind != OperandKind::predicate) form.refuse("a predicate is expected");
  expect_row(form, 1, 64);
  form.use(isspacep);
}

}  // namespace foretoken::machine
