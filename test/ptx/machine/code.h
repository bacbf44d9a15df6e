// A kernel decoded: what is the same for every launch of it.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "instruction.h"
#include "ptx/program.h"

namespace foretoken::machine {

// A place in the source of every instruction, for messages.
struct Origin {
  uint32_t function = 0;   // index in Program::functions
  uint32_t statement = 0;  // index in its body
};

// Addresses that only the loader knows: of .global and .const variables in global memory.
using Resolve = std::function<uint64_t(const ptx::Variable& variable)>;

struct Code {
  ptx::Program program;
  std::vector<Instruction> instructions;  // all functions behind each other, the kernel first
  std::vector<Origin> origins;            // [instructions]
  std::vector<uint32_t> function_start;   // [program.functions] pc
  std::deque<std::vector<Operand>> operands;
  std::vector<std::shared_ptr<void>> kept;

  // Constant rows: immediates and addresses, broadcast to 32 lanes. Addresses in shared memory carry the rank of the
  // block in its cluster, so a launch has a set for each rank.
  std::vector<std::array<uint8_t, kRowBytes>> constants;
  struct SharedConstant {
    uint32_t row = 0;
    uint32_t bits = 0;
  };
  std::vector<SharedConstant> shared_constants;
  // The row of a value, made on first use. bits: 32 or 64, of a lane.
  uint32_t constant_row(uint64_t value, uint32_t bits, bool shared_address = false);
  std::map<std::tuple<uint64_t, uint32_t, bool>, uint32_t> constant_index;

  // Sums that may be fused with the product before them, as the fused instruction (fuse.h).
  struct Fusion {
    uint32_t pc = 0;
    Instruction instruction;
  };
  std::vector<Fusion> fusions;

  Resolve resolve;
  uint32_t rows = 0;         // of a warp, with the scratch rows that `_` results go to
  uint32_t scratch_row = 0;  // four rows
  uint32_t predicates = 0;   // with [0], the constant true

  const ptx::Statement& statement(uint32_t pc) const;
  std::string kernel_name() const;
  std::string place(uint32_t pc) const;  // "gemm.cu:40"
  std::string text(uint32_t pc) const;   // the instruction as written
  // The function that a pointer means; nullptr if it means none that this kernel can call.
  const ptx::FunctionPlan* function_at(uint64_t pointer) const;
  const ptx::FunctionPlan* plan_of(const ptx::Function& function) const;
  uint32_t start_of(const ptx::FunctionPlan& plan) const;
};

// Throws Fault (unsupported) or ptx::ParseError.
std::unique_ptr<Code> decode(ptx::Module& module, const ptx::Function& kernel, const Resolve& resolve);

}  // namespace foretoken::machine
