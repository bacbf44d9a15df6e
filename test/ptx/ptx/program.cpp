#include "program.h"

#include <algorithm>
#include <functional>
#include <set>

#include "declarations.h"
#include "parser.h"

namespace foretoken::ptx {
namespace {

void visit_operands(const Operand& operand, const std::function<void(const Operand&)>& visit) {
  visit(operand);
  for (const Operand& element : operand.elements) visit_operands(element, visit);
}

void visit_operands(const Function& function, const std::function<void(const Operand&)>& visit) {
  for (const Statement& statement : function.body)
    for (const Operand& operand : statement.operands) visit_operands(operand, visit);
}

// The kernel and all it can call, each once, callers first.
class Reachable {
 public:
  explicit Reachable(Module& module) : module_(module) {}

  std::vector<Function*> from(Function& kernel) {
    add(kernel);
    // Calls through pointers may reach functions that call through pointers; their addresses count too.
    for (size_t known = 0; calls_pointers_ && known != functions_.size();) {
      known = functions_.size();
      for (Function* function : addressed()) add(*function);
    }
    return functions_;
  }

 private:
  void add(Function& function) {
    if (function.is_declared_only || !known_.insert(&function).second) return;
    parse_body(module_, function);
    functions_.push_back(&function);
    active_.push_back(&function);
    for (const Statement& statement : function.body) {
      if (statement.mnemonic != "call") continue;
      const Operand& callee = statement.operands[1];
      calls_pointers_ |= callee.kind == OperandKind::reg;
      if (callee.kind != OperandKind::symbol) continue;
      Function& called = *module_.functions[callee.index];
      if (std::find(active_.begin(), active_.end(), &called) != active_.end())
        throw statement_error(module_, function, statement, "recursion is not supported");
      add(called);
    }
    active_.pop_back();
  }

  std::set<Function*> addressed() const {
    std::set<Function*> found;
    for (const Function* function : functions_)
      for (const Statement& statement : function->body)
        for (size_t i = 0; i < statement.operands.size(); ++i) {
          const Operand& operand = statement.operands[i];
          const bool is_callee = statement.mnemonic == "call" && i == 1;
          if (!is_callee && operand.kind == OperandKind::symbol && operand.symbol == SymbolKind::function)
            found.insert(module_.functions[operand.index].get());
        }
    for (const Variable& variable : module_.variables)
      for (const Variable::Relocation& relocation : variable.relocations)
        if (Function* function = module_.find_function(relocation.symbol)) found.insert(function);
    return found;
  }

  Module& module_;
  std::vector<Function*> functions_;
  std::vector<const Function*> active_;
  std::set<const Function*> known_;
  bool calls_pointers_ = false;
};

FunctionPlan plan_function(const Module& module, const Function& function, Program& program) {
  FunctionPlan plan;
  plan.function = &function;
  plan.flow = control_flow(module, function);
  plan.allocation = allocate_registers(module, function, plan.flow);
  plan.first_row = append(program.rows, plan.allocation.rows, 4);
  plan.first_predicate = append(program.predicates, plan.allocation.predicates, 1);
  plan.local_base = append(program.local_bytes, function.local_bytes, function.local_alignment);
  constexpr uint32_t kParameterAlignment = 16;  // the largest of any type
  uint32_t& area = program.call_area_bytes;
  plan.call_parameter_base = append(area, function.call_parameter_bytes, kParameterAlignment);
  if (!function.is_kernel) {
    plan.parameter_base = append(area, function.parameter_bytes, kParameterAlignment);
    plan.return_base = append(area, function.return_bytes, kParameterAlignment);
  }
  return plan;
}

// Static variables in the order in which the code first mentions them, the dynamic part behind.
void lay_out_shared_memory(const Module& module, Program& program) {
  uint32_t dynamic_alignment = 1;
  std::vector<const Variable*> dynamic;
  const auto place = [&](const Variable& variable) {
    if (variable.space != StateSpace::shared || program.shared_offset.contains(&variable)) return;
    if (variable.is_extern) dynamic.push_back(&variable);
    uint32_t& end = program.static_shared_bytes;
    program.shared_offset[&variable] = variable.is_extern ? 0 : append(end, variable.size, variable.alignment);
    if (variable.is_extern) dynamic_alignment = std::max(dynamic_alignment, variable.alignment);
  };
  for (const FunctionPlan& plan : program.functions) {
    visit_operands(*plan.function, [&](const Operand& operand) {
      if (operand.kind != OperandKind::symbol) return;
      if (operand.symbol == SymbolKind::module_variable) place(module.variables[operand.index]);
      if (operand.symbol == SymbolKind::local_variable) place(plan.function->variables[operand.index]);
    });
  }
  program.uses_dynamic_shared = !dynamic.empty();
  program.dynamic_shared_offset = program.static_shared_bytes;
  append(program.dynamic_shared_offset, 0, dynamic_alignment);
  for (const Variable* variable : dynamic) program.shared_offset[variable] = program.dynamic_shared_offset;
}

}  // namespace

Program build_program(Module& module, const Function& kernel) {
  Program program;
  program.module = &module;
  for (const Function* function : Reachable(module).from(*module.find_function(kernel.name))) {
    program.plan_of[function] = static_cast<uint32_t>(program.functions.size());
    program.functions.push_back(plan_function(module, *function, program));
  }
  lay_out_shared_memory(module, program);
  return program;
}

}  // namespace foretoken::ptx
