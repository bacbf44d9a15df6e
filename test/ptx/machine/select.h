// Selectors that more than one file needs: by the type of their operands.
#pragma once
#include "table.h"

namespace foretoken::machine {

inline bool is_half(ptx::Type t) {
  return t == ptx::Type::f16 || t == ptx::Type::f16x2 || t == ptx::Type::bf16 || t == ptx::Type::bf16x2;
}
inline bool is_float(ptx::Type t) { return t == ptx::Type::f32 || t == ptx::Type::f64; }
inline bool is_signed(ptx::Type t) {
  return t == ptx::Type::s8 || t == ptx::Type::s16 || t == ptx::Type::s32 || t == ptx::Type::s64;
}

// The mnemonic's forms for f32 and f64 (float.cpp), halves (half.cpp) and with carry (carry.cpp). The type is taken.
void select_float(Form& form, ptx::Type type);
void select_half(Form& form, ptx::Type type);
void select_carry(Form& form);
void select_mov(Form& form);  // move.cpp
// Not mnemonics of PTX: what fuse.cpp makes of mul and sub. a · b - c and c - a · b.
inline constexpr std::string_view kFusedDifference = "mul+sub", kFusedDifferenceFrom = "sub-mul";
// rcp, sqrt, rsqrt, sin, cos, lg2, ex2, tanh, div.approx, div.full (approximate.cpp).
void select_approximate(Form& form);

}  // namespace foretoken::machine
