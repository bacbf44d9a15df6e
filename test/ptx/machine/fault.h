// What stops a launch: the fault of a kernel, found while executing it, told in the words of its source.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace foretoken::machine {

enum class FaultKind : uint8_t {
  address,     // out of bounds, use after free, misaligned, wrong state space: cudaErrorIllegalAddress and relatives
  undefined,   // an undefined value decided something
  race,        // two accesses without an order between them
  usage,       // against a rule of PTX: membership masks, barrier counts, missing fences and waits
  deadlock,    // no progress anywhere
  trap,        // trap, a device printf
  assertion,   // __assertfail
  unsupported  // an instruction or a combination of modifiers which is not in the table
};

// what(): "FAULT-TEXT; in kernel K, at gemm.cu:40, block (0,1,0), thread (33,0,0): `text of the instruction`"
struct Fault : std::runtime_error {
  Fault(FaultKind fault_kind, const std::string& message) : std::runtime_error(message), kind(fault_kind) {}
  FaultKind kind;
};

}  // namespace foretoken::machine
