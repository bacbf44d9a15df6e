// A kernel with all it can call, ready for decoding: bodies parsed, control flow, registers, memory laid out.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "control_flow.h"
#include "module.h"
#include "registers.h"

namespace foretoken::ptx {

// A function's place in the kernel's frame. Frames are static and disjoint: without recursion a lane is in at most one
// activation of a function, and lanes inside different functions never overlap.
struct FunctionPlan {
  const Function* function = nullptr;
  ControlFlow flow;
  Allocation allocation;   // relative to the frame
  uint32_t first_row = 0;  // a multiple of 4
  uint32_t first_predicate = 0;
  uint32_t local_base = 0;           // of its .local variables in the thread's local memory, bytes
  uint32_t call_parameter_base = 0;  // of its .param variables in the thread's call area, bytes
  uint32_t parameter_base = 0;       // .func: of its parameters in the thread's call area; kernels: 0, parameter space
  uint32_t return_base = 0;          // .func: of its return values in the thread's call area
};

struct Program {
  const Module* module = nullptr;
  std::vector<FunctionPlan> functions;                // [0] is the kernel; then what it can reach, each once
  std::map<const Function*, uint32_t> plan_of;        // index in functions
  std::map<const Variable*, uint32_t> shared_offset;  // every .shared variable; extern: dynamic_shared_offset
  uint32_t static_shared_bytes = 0;
  uint32_t dynamic_shared_offset = 0;  // static_shared_bytes rounded up to the externs' alignment
  bool uses_dynamic_shared = false;
  uint32_t rows = 0, predicates = 0;  // per warp
  uint32_t local_bytes = 0;           // per thread
  uint32_t call_area_bytes = 0;       // per thread
};

// Functions reachable: by name in calls and, as soon as anything calls through a pointer, every function whose address
// is taken in a body or an initialiser. Those only declared (vprintf) have no plan. Throws ParseError for recursion by
// name; through pointers only the machine can see it.
Program build_program(Module& module, const Function& kernel);

// An immediate operand's bits for an instruction working in `type`: integers truncated to its width, f32 and f64
// converted into each other. Throws ParseError where ptxas refuses too: integers for floats, floats for other types
// (but 0f… for b32, 0d… and decimals for b64), anything for halves.
uint64_t immediate_bits(const Operand& operand, Type type);

}  // namespace foretoken::ptx
