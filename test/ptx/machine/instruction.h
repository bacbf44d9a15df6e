// An instruction as executed: the handler chosen once, operands resolved to rows.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "counters.h"
#include "ptx/module.h"

namespace foretoken::machine {

using Mask = uint32_t;  // bit per lane
constexpr int kLanes = 32;
constexpr uint32_t kRowBytes = 128;
constexpr Mask kAllLanes = 0xffffffffu;

struct Context;
struct Instruction;

// How execution goes on after a handler.
enum class Outcome : uint8_t {
  next,    // the instruction behind
  yield,   // the same, but the slice ends: after Context::sleep, failed try_wait, nanosleep, volatile loads, failed cas
  jump,    // the handler has set Split::pc
  repeat,  // the slice ends and the instruction runs again: after the split, put to sleep by Context::sleep, was woken
  gone     // the split has exited or was merged into another: do not touch it
};

using Handler = Outcome (*)(Context&, const Instruction&);

enum class OperandKind : uint8_t {
  row,        // a register (16-bit ones in the low half of a 32-bit lane) or a constant
  predicate,  // a mask
  address,    // row with the base, plus offset
  sink        // `_`
};

// Rows live in one of two files: registers of the warp, or constants (immediates, addresses of variables), which are
// broadcast over the lanes when a kernel is decoded.
constexpr uint8_t kRegisterFile = 0, kConstantFile = 1;

struct Operand {
  OperandKind kind = OperandKind::sink;
  uint8_t file = kRegisterFile;
  uint8_t bits = 0;      // of a lane of the row: 32, 64 or 128
  bool negated = false;  // predicates: !p
  uint32_t index = 0;    // first row, or number of the predicate
  int64_t offset = 0;    // address: bytes added to the base
};

// Says what is undefined in the results, given what is undefined in the sources. Called before the results are written,
// and only if a source or a result is not known to be defined as a whole.
using Propagate = void (*)(Context&, const Instruction&);

// Everything but registers is known when the kernel is decoded.
struct Instruction {
  Handler handler = nullptr;
  Propagate propagate = nullptr;      // for handlers made of lanewise.h; others do it themselves
  const Operand* operands = nullptr;  // flat: elements of vectors and pairs, coordinates of an address in place
  uint16_t operand_count = 0;
  uint16_t guard = 0;        // predicate; 0 is the constant true
  Mask guard_inversion = 0;  // all ones for @!p
  Class category = Class::other;
  bool meeting_point = false;            // diverged lanes may join here
  uint8_t results = 1;                   // how many operands, from the first, are written
  uint32_t parameter[4] = {0, 0, 0, 0};  // what the selector keeps for its handler
  uint32_t target = 0;                   // branches: pc. Calls: pc of the callee
  uint32_t meets_at = 0xffffffffu;       // branches: pc where both ways join, kNoMeetingPoint if nowhere
  const void* plan = nullptr;            // what the selector keeps if that is not enough; owned by Code

  const Operand& operator[](int i) const { return operands[i]; }
};

}  // namespace foretoken::machine
