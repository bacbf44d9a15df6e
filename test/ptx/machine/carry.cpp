// add.cc, addc, sub.cc, subc, mad.cc, madc: arithmetic that sets or uses the lanes' carry.
#include "integer.h"
#include "lanewise.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

template <class T>
struct Carried {
  T value;
  bool carry;
};

// Unsigned T throughout: the carry is the same for signed operands, and only the high product differs.
struct SumWithCarry {
  template <class T>
  static Carried<T> apply(T a, T b, T, bool carry) {
    const T sum = a + b, total = sum + carry;
    return {total, sum < a || total < sum};
  }
};
// The carry is a borrow.
struct DifferenceWithBorrow {
  template <class T>
  static Carried<T> apply(T a, T b, T, bool borrow) {
    const T difference = a - b, total = difference - borrow;
    return {total, a < b || difference < static_cast<T>(borrow)};
  }
};
struct LowWithCarry {
  template <class T>
  static Carried<T> apply(T a, T b, T c, bool carry) {
    return SumWithCarry::apply<T>(low_product(a, b), c, 0, carry);
  }
};
struct HighWithCarry {
  template <class T>
  static Carried<T> apply(T a, T b, T c, bool carry) {
    return SumWithCarry::apply<T>(high_product(a, b), c, 0, carry);
  }
};
struct SignedHighWithCarry {
  template <class T>
  static Carried<T> apply(T a, T b, T c, bool carry) {
    using S = std::make_signed_t<T>;
    const T high = static_cast<T>(high_product(static_cast<S>(a), static_cast<S>(b)));
    return SumWithCarry::apply<T>(high, c, 0, carry);
  }
};

// parameter[0]: the carry comes in; [1]: it goes out.
template <class Op, class T>
Outcome with_carry(Context& c, const Instruction& i) {
  const bool comes_in = i.parameter[0] != 0, goes_out = i.parameter[1] != 0;
  Predicate& flag = c.warp->carry;
  Mask undefined = comes_in ? flag.undefined : 0;
  for (int k = 1; k < i.operand_count; ++k) undefined |= c.undefined(i[k]);
  const T *a = c.source<T>(i[1]), *b = c.source<T>(i[2]), *d = c.source<T>(i[i.operand_count - 1]);
  T result[kLanes];
  Mask out = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const Carried<T> sum = Op::apply(a[lane], b[lane], d[lane], comes_in && (flag.value >> lane & 1));
    result[lane] = sum.value;
    out |= static_cast<Mask>(sum.carry) << lane;
  }
  c.blend(c.target<T>(i[0]), result);
  c.set_undefined(i[0], undefined);
  if (goes_out) {
    flag.value = (flag.value & ~c.lanes) | (out & c.lanes);
    flag.undefined = (flag.undefined & ~c.lanes) | (undefined & c.lanes);
  }
  return Outcome::next;
}

template <class Op>
void use_carry(Form& form, Type type) {
  ptx::type_bits(type) == 64 ? form.use(with_carry<Op, uint64_t>) : form.use(with_carry<Op, uint32_t>);
}

}  // namespace

void select_carry(Form& form) {
  form.instruction.category = Class::integer;
  const std::string_view m = form.statement.mnemonic;
  form.instruction.parameter[0] = m == "addc" || m == "subc" || m == "madc";
  form.instruction.parameter[1] = form.take("cc");
  const bool is_product = m.substr(0, 3) == "mad";
  const int part = is_product ? form.take_one({"lo", "hi"}) : -1;
  const Type type = form.take_type();
  if (type != Type::u32 && type != Type::s32 && type != Type::u64 && type != Type::s64) form.unknown();
  form.constants(type);
  const int operands = is_product ? 4 : 3;
  form.expect_operands(operands, operands);
  const uint32_t bits = ptx::type_bits(type) == 64 ? 64 : 32;
  for (int k = 0; k < operands; ++k) expect_row(form, k, bits, k == 0);
  if (is_product && part < 0) form.unknown();
  if (part == 0) return use_carry<LowWithCarry>(form, type);
  if (part == 1)
    return is_signed(type) ? use_carry<SignedHighWithCarry>(form, type) : use_carry<HighWithCarry>(form, type);
  m.substr(0, 3) == "add" ? use_carry<SumWithCarry>(form, type) : use_carry<DifferenceWithBorrow>(form, type);
}

}  // namespace foretoken::machine
