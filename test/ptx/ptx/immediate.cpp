#include <bit>

#include "program.h"

namespace foretoken::ptx {

// As ptxas has it: integers are no floats and floats no integers, but .b32 takes 0f… and .b64 takes 0d… and decimals.
uint64_t immediate_bits(const Operand& operand, Type type) {
  const bool is_float = type == Type::f32 || type == Type::f64;
  const bool is_half = type == Type::f16 || type == Type::f16x2 || type == Type::bf16 || type == Type::bf16x2;
  if (operand.kind == OperandKind::integer && !is_float && !is_half) {
    const int bits = type_bits(type);
    return type == Type::pred ? operand.bits != 0 : bits >= 64 ? operand.bits : operand.bits & ((1ull << bits) - 1);
  }
  if (operand.kind == OperandKind::float32 && (type == Type::f32 || type == Type::b32)) return operand.bits;
  if (operand.kind == OperandKind::float64 && (type == Type::f64 || type == Type::b64)) return operand.bits;
  if (operand.kind == OperandKind::float32 && type == Type::f64)
    return std::bit_cast<uint64_t>(double{std::bit_cast<float>(static_cast<uint32_t>(operand.bits))});
  if (operand.kind == OperandKind::float64 && type == Type::f32)
    return std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(operand.bits)));
  throw ParseError("an operand is not an immediate of the instruction's type");
}

}  // namespace foretoken::ptx
