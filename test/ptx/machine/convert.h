// What the files of conversions share.
#pragma once
#include <optional>

#include "narrow.h"
#include "table.h"

namespace foretoken::machine {

struct Conversion {
  ptx::Type from = ptx::Type::b32, to = ptx::Type::b32;
  std::optional<Rounding> integer_rounding;  // .rni, .rmi, .rpi, .rzi
  Rounding rounding = Rounding::nearest;
  Nearest ties = Nearest::even;
  bool ftz = false, sat = false, relu = false, satfinite = false;
};

template <class Half, bool Relu>
struct ToHalf {
  static uint16_t apply(float x) { return Half::from_float(Relu && !(x != x || x > 0) ? 0.0f : x); }
};

// convert_packed.cpp: pairs of 16- and 8-bit floats, tf32, cvt.pack. The modifiers in `how` are taken.
bool has_pair(const Form& form);
void select_pair(Form& form, const Conversion& how);
void select_tf32(Form& form, const Conversion& how);
void select_pack(Form& form);
// address.cpp
void select_cvta(Form& form);
void select_isspacep(Form& form);

}  // namespace foretoken::machine
