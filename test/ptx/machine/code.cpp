#include "code.h"

#include <cstring>

#include "fault.h"
#include "fuse.h"
#include "memory.h"
#include "table.h"

namespace foretoken::machine {

namespace {

// A branch past which lanes only leave the kernel is no place to wait for each other.
bool leaves_kernel(const ptx::FunctionPlan& plan, uint32_t statement) {
  const ptx::Statement& s = plan.function->body[statement];
  return plan.function->is_kernel && !s.guard && (s.mnemonic == "ret" || s.mnemonic == "exit");
}

void decode_statement(Code& code, const ptx::FunctionPlan& plan, uint32_t statement, uint32_t start) {
  const ptx::Statement& s = plan.function->body[statement];
  Instruction& i = code.instructions[start + statement];
  if (s.guard) {
    i.guard = static_cast<uint16_t>(1 + plan.first_predicate + plan.allocation.slot[*s.guard]);
    i.guard_inversion = s.guard_negated ? kAllLanes : 0;
  }
  for (const ptx::Operand& operand : s.operands)
    if (operand.kind == ptx::OperandKind::label) i.target = start + operand.target;
  const uint32_t meets = plan.flow.meeting_point_of(statement);
  i.meets_at = meets == ptx::kNoMeetingPoint || leaves_kernel(plan, meets) ? ptx::kNoMeetingPoint : start + meets;
  Form form(code, plan, s, i);
  const Entry* entry = find_entry(s.mnemonic);
  if (!entry) form.unknown();
  entry->select(form);
  form.finish();
}

}  // namespace

uint32_t Code::constant_row(uint64_t value, uint32_t bits, bool shared_address) {
  const auto [it, is_new] =
      constant_index.try_emplace({value, bits, shared_address}, static_cast<uint32_t>(constants.size()));
  if (!is_new) return it->second;
  // A 64-bit constant takes two rows, and so on, as registers do.
  const uint32_t bytes = bits / 8;
  constants.resize(constants.size() + bits / 32);
  for (int lane = 0; lane < kLanes; ++lane) {
    uint8_t* at = constants[it->second].data() + static_cast<uint32_t>(lane) * bytes;
    std::memset(at, 0, bytes);
    std::memcpy(at, &value, bytes < 8 ? bytes : 8);
  }
  if (shared_address) shared_constants.push_back({it->second, bits});
  return it->second;
}

const ptx::Statement& Code::statement(uint32_t pc) const {
  return program.functions[origins[pc].function].function->body[origins[pc].statement];
}

std::string Code::kernel_name() const { return std::string(program.functions[0].function->name); }
std::string Code::place(uint32_t pc) const { return ptx::describe_location(*program.module, statement(pc).location); }
std::string Code::text(uint32_t pc) const { return ptx::statement_text(*program.module, statement(pc)); }

uint32_t Code::start_of(const ptx::FunctionPlan& plan) const {
  return function_start[static_cast<size_t>(&plan - program.functions.data())];
}

const ptx::FunctionPlan* Code::plan_of(const ptx::Function& function) const {
  const auto it = program.plan_of.find(&function);
  return it == program.plan_of.end() ? nullptr : &program.functions[it->second];
}

const ptx::FunctionPlan* Code::function_at(uint64_t pointer) const {
  const uint64_t index = (pointer - kFunctionWindow) / 16;
  if (pointer < kFunctionWindow || pointer % 16 || index >= program.module->functions.size()) return nullptr;
  return plan_of(*program.module->functions[index]);
}

std::unique_ptr<Code> decode(ptx::Module& module, const ptx::Function& kernel, const Resolve& resolve) {
  auto code = std::make_unique<Code>();
  code->program = ptx::build_program(module, kernel);
  code->resolve = resolve;
  code->scratch_row = (code->program.rows + 3) / 4 * 4;
  code->rows = code->scratch_row + 4;
  code->predicates = 1 + code->program.predicates;
  const auto& functions = code->program.functions;
  for (uint32_t f = 0; f < functions.size(); ++f) {
    code->function_start.push_back(static_cast<uint32_t>(code->origins.size()));
    for (uint32_t s = 0; s < functions[f].function->body.size(); ++s) code->origins.push_back({f, s});
  }
  code->instructions.resize(code->origins.size());
  for (uint32_t f = 0; f < functions.size(); ++f)
    for (uint32_t s = 0; s < functions[f].function->body.size(); ++s)
      decode_statement(*code, functions[f], s, code->function_start[f]);
  for (const Instruction& i : code->instructions)
    if (i.meets_at != ptx::kNoMeetingPoint) code->instructions[i.meets_at].meeting_point = true;
  // Lanes that a call took to different places meet behind it.
  for (size_t pc = 0; pc < code->instructions.size(); ++pc)
    if (code->statement(static_cast<uint32_t>(pc)).mnemonic == "call") code->instructions[pc + 1].meeting_point = true;
  find_fusions(*code);
  return code;
}

}  // namespace foretoken::machine
