// The processor's rounding mode, for .rz, .rm and .rp.
#pragma once
#include <cstdint>

#include "lanewise.h"

namespace foretoken::machine {

enum class Rounding : uint8_t { nearest, down, up, zero };  // in the order of MXCSR's field

// While it lives, this thread's SSE and AVX arithmetic rounds so. Operands and results must pass through memory, which
// both ends of the scope clobber, so that no operation moves out of it.
class RoundingScope {
 public:
  explicit RoundingScope(Rounding rounding) {
    asm volatile("stmxcsr %0" : "=m"(saved_)::"memory");
    set((saved_ & ~0x6000u) | static_cast<uint32_t>(rounding) << 13);
  }
  ~RoundingScope() { set(saved_); }
  RoundingScope(const RoundingScope&) = delete;
  RoundingScope& operator=(const RoundingScope&) = delete;

 private:
  static void set(uint32_t mode) { asm volatile("ldmxcsr %0" ::"m"(mode) : "memory"); }
  uint32_t saved_ = 0;
};

template <Rounding R, class Op, class D, class... S>
Outcome lanewise_rounded(Context& c, const Instruction& i) {
  const RoundingScope scope(R);
  return lanewise<Op, D, S...>(c, i);
}

// use_lanewise in a rounding mode. An absent modifier means nearest.
template <class Op, class D, class... S>
void use_rounded(Form& form, Rounding rounding, Propagate propagate = poison) {
  use_lanewise<Op, D, S...>(form, propagate);
  switch (rounding) {
    case Rounding::nearest: break;
    case Rounding::down: form.use(lanewise_rounded<Rounding::down, Op, D, S...>); break;
    case Rounding::up: form.use(lanewise_rounded<Rounding::up, Op, D, S...>); break;
    case Rounding::zero: form.use(lanewise_rounded<Rounding::zero, Op, D, S...>); break;
  }
}

inline Rounding take_rounding(Form& form) {
  switch (form.take_one({"rn", "rm", "rp", "rz"})) {
    case 1: return Rounding::down;
    case 2: return Rounding::up;
    case 3: return Rounding::zero;
    default: return Rounding::nearest;
  }
}

}  // namespace foretoken::machine
