#include "fuse.h"

#include <algorithm>

#include "ptx/accesses.h"
#include "random.h"
#include "select.h"

namespace foretoken::machine {

namespace {

using ptx::Statement;
using ptx::Type;

struct Uses {
  uint32_t reads = 0, writes = 0;
  uint32_t reader = 0;  // the last statement that reads it
};

std::vector<Uses> count_uses(const ptx::Module& module, const ptx::Function& function) {
  std::vector<Uses> uses(function.registers.size());
  for (uint32_t s = 0; s < function.body.size(); ++s)
    for (const ptx::Access& access : ptx::register_accesses(module, function, function.body[s])) {
      uses[access.reg].writes += access.written;
      if (!access.read) continue;
      ++uses[access.reg].reads;
      uses[access.reg].reader = s;
    }
  return uses;
}

// "f32" and the like, if the statement has this mnemonic in a float type and no rounding or saturation.
std::string_view loose_float(const Statement& s, std::initializer_list<std::string_view> mnemonics) {
  if (std::find(mnemonics.begin(), mnemonics.end(), s.mnemonic) == mnemonics.end() || s.guard) return {};
  std::string_view type;
  for (std::string_view modifier : s.modifiers) {
    if (modifier == "ftz") continue;
    const auto named = ptx::type_named(modifier);
    if (!named || !(is_float(*named) || is_half(*named))) return {};
    type = modifier;
  }
  return type;
}

struct Rows {
  uint32_t first = 0, end = 0;
  bool overlap(const Rows& other) const { return first < other.end && other.first < end; }
};

Rows rows_of(const ptx::FunctionPlan& plan, uint32_t reg) {
  const Type type = plan.function->registers[reg].type;
  if (type == Type::pred) return {};
  const uint32_t first = plan.allocation.slot[reg];
  return {first, first + static_cast<uint32_t>(std::max(1, ptx::type_bits(type) / 32))};
}

// Whether the product's factors still stand in their rows at the sum.
bool factors_survive(const ptx::Module& module, const ptx::FunctionPlan& plan, uint32_t product, uint32_t sum) {
  const ptx::Function& function = *plan.function;
  for (int k : {1, 2}) {
    const ptx::Operand& factor = function.body[product].operands[static_cast<size_t>(k)];
    if (factor.kind != ptx::OperandKind::reg) continue;
    const Rows rows = rows_of(plan, factor.reg);
    for (uint32_t s = product; s < sum; ++s)
      for (const ptx::Access& access : ptx::register_accesses(module, function, function.body[s]))
        if (access.written && rows.overlap(rows_of(plan, access.reg))) return false;
  }
  return true;
}

// a · b + c, a · b - c or c - a · b.
Statement fused(const Statement& product, const Statement& sum) {
  const bool product_first =
      sum.operands[1].kind == ptx::OperandKind::reg && sum.operands[1].reg == product.operands[0].reg;
  Statement result = sum;
  result.mnemonic = sum.mnemonic == "add" ? "fma" : product_first ? kFusedDifference : kFusedDifferenceFrom;
  result.modifiers.insert(result.modifiers.begin(), "rn");
  result.operands = {sum.operands[0], product.operands[1], product.operands[2], sum.operands[product_first ? 2 : 1]};
  return result;
}

void fuse_pair(Code& code, const ptx::FunctionPlan& plan, uint32_t start, uint32_t product, uint32_t sum, Type type) {
  const auto statement = std::make_shared<Statement>(fused(plan.function->body[product], plan.function->body[sum]));
  code.kept.push_back(statement);
  Code::Fusion fusion{start + sum, code.instructions[start + sum]};
  Form form(code, plan, *statement, fusion.instruction);
  form.take_type();
  is_float(type) ? select_float(form, type) : select_half(form, type);
  form.finish();
  code.fusions.push_back(fusion);
}

}  // namespace

void find_fusions(Code& code) {
  for (const ptx::FunctionPlan& plan : code.program.functions) {
    const ptx::Function& function = *plan.function;
    const std::vector<Uses> uses = count_uses(*code.program.module, function);
    for (uint32_t product = 0; product < function.body.size(); ++product) {
      const Statement& mul = function.body[product];
      const std::string_view type = loose_float(mul, {"mul"});
      if (type.empty() || mul.operands[0].kind != ptx::OperandKind::reg) continue;
      const Uses& use = uses[mul.operands[0].reg];
      const uint32_t sum = use.reader;
      if (use.reads != 1 || use.writes != 1 || sum <= product) continue;
      if (plan.flow.block_of[sum] != plan.flow.block_of[product]) continue;
      const Statement& add = function.body[sum];
      const auto named = ptx::type_named(type);
      const bool may_subtract = is_float(*named);
      if (loose_float(add, {"add", may_subtract ? "sub" : "add"}) != type || add.has("ftz") != mul.has("ftz")) continue;
      if (factors_survive(*code.program.module, plan, product, sum))
        fuse_pair(code, plan, code.start_of(plan), product, sum, *named);
    }
  }
}

std::vector<Instruction> with_fusions(const Code& code, uint64_t seed) {
  std::vector<Instruction> instructions = code.instructions;
  for (const Code::Fusion& fusion : code.fusions)
    if (mix(seed ^ mix(fusion.pc)) & 1) instructions[fusion.pc] = fusion.instruction;
  return instructions;
}

}  // namespace foretoken::machine
