// Form: modifiers and operands of one statement on their way to an Instruction.
#include <algorithm>

#include "code.h"
#include "fault.h"
#include "memory.h"
#include "table.h"

namespace foretoken::machine {

namespace {

uint32_t lane_bits(ptx::Type type) { return static_cast<uint32_t>(std::max(32, ptx::type_bits(type))); }

bool is_immediate(const ptx::Operand& o) {
  return o.kind == ptx::OperandKind::integer || o.kind == ptx::OperandKind::float32 ||
         o.kind == ptx::OperandKind::float64;
}

struct SymbolAddress {
  uint64_t address = 0;
  bool shared = false;
};

SymbolAddress variable_address(const Code& code, const ptx::FunctionPlan& plan, const ptx::Variable& variable) {
  switch (variable.space) {
    case ptx::StateSpace::shared: return {kSharedBase + code.program.shared_offset.at(&variable), true};
    case ptx::StateSpace::local: return {plan.local_base + variable.offset};
    case ptx::StateSpace::param: return {kCallArea + plan.call_parameter_base + variable.offset};
    default: return {code.resolve(variable)};
  }
}

// Addresses within their space; those of .param in the call area carry kCallArea.
SymbolAddress symbol_address(const Code& code, const ptx::FunctionPlan& plan, const ptx::Operand& o) {
  const ptx::Function& function = *plan.function;
  switch (o.symbol) {
    case ptx::SymbolKind::parameter: {
      const uint64_t offset = plan.parameter_base + function.parameters[o.index].offset;
      return {function.is_kernel ? offset : kCallArea + offset};
    }
    case ptx::SymbolKind::return_value: return {kCallArea + plan.return_base + function.returns[o.index].offset};
    case ptx::SymbolKind::local_variable: return variable_address(code, plan, function.variables[o.index]);
    case ptx::SymbolKind::module_variable: return variable_address(code, plan, code.program.module->variables[o.index]);
    case ptx::SymbolKind::function: return {kFunctionWindow + 16 * uint64_t{o.index}};
    case ptx::SymbolKind::prototype: break;
  }
  return {};
}

}  // namespace

Form::Form(Code& code_, const ptx::FunctionPlan& plan_, const ptx::Statement& statement_, Instruction& out)
    : instruction(out),
      statement(statement_),
      plan(plan_),
      code(code_),
      taken_(statement_.modifiers.size()),
      operands_(code_.operands.emplace_back()) {
  for (const ptx::Operand& operand : statement.operands) {
    flat_of_.push_back(static_cast<int>(operands_.size()));
    add(operand);
  }
  instruction.operands = operands_.data();
  instruction.operand_count = static_cast<uint16_t>(operands_.size());
}

void Form::add(const ptx::Operand& o) {
  Operand made;
  made.index = code.scratch_row;
  made.bits = 128;
  switch (o.kind) {
    case ptx::OperandKind::pair:
    case ptx::OperandKind::vector:
      for (const ptx::Operand& element : o.elements) add(element);
      return;
    case ptx::OperandKind::reg: {
      const ptx::Type type = plan.function->registers[o.reg].type;
      const uint32_t slot = plan.allocation.slot[o.reg];
      made.negated = o.negated;
      if (type == ptx::Type::pred) {
        made.kind = OperandKind::predicate;
        made.index = 1 + plan.first_predicate + slot;
      } else {
        made.kind = OperandKind::row;
        made.index = plan.first_row + slot;
        made.bits = static_cast<uint8_t>(lane_bits(type));
      }
      break;
    }
    case ptx::OperandKind::address: {
      made.kind = OperandKind::address;
      const ptx::Operand& base = o.elements[0];
      if (base.kind == ptx::OperandKind::reg) {
        made.index = plan.first_row + plan.allocation.slot[base.reg];
        made.bits = static_cast<uint8_t>(lane_bits(plan.function->registers[base.reg].type));
        made.offset = o.offset;
      } else {
        const SymbolAddress symbol =
            base.kind == ptx::OperandKind::symbol ? symbol_address(code, plan, base) : SymbolAddress{base.bits};
        made.file = kConstantFile;
        made.bits = 64;
        made.index =
            code.constant_row(symbol.address + static_cast<uint64_t>(base.offset + o.offset), 64, symbol.shared);
      }
      operands_.push_back(made);
      flat_operands_.push_back(&o);
      for (size_t k = 1; k < o.elements.size(); ++k) add(o.elements[k]);
      return;
    }
    default: break;
  }
  operands_.push_back(made);
  flat_operands_.push_back(&o);
}

void Form::set_constant(size_t flat_number, const ptx::Operand& o, ptx::Type type) {
  Operand& made = operands_[flat_number];
  if (type == ptx::Type::pred) {
    // A predicate written as 0 or 1: the constant true, or its negation.
    made = {OperandKind::predicate, kRegisterFile, 0, ptx::immediate_bits(o, ptx::Type::b32) == 0, 0, 0};
    return;
  }
  uint64_t value = 0;
  bool shared = false;
  if (o.kind == ptx::OperandKind::symbol) {
    const SymbolAddress symbol = symbol_address(code, plan, o);
    value = symbol.address + static_cast<uint64_t>(o.offset);
    shared = symbol.shared;
  } else {
    value = ptx::immediate_bits(o, type);
  }
  made.kind = OperandKind::row;
  made.file = kConstantFile;
  made.bits = static_cast<uint8_t>(lane_bits(type));
  if (made.bits == 32) value &= 0xffffffffu;
  made.index = code.constant_row(value, made.bits, shared);
}

void Form::constants(ptx::Type type) {
  for (size_t k = 0; k < operands_.size(); ++k) {
    const ptx::Operand& o = *flat_operands_[k];
    if (is_immediate(o) || o.kind == ptx::OperandKind::symbol) set_constant(k, o, type);
  }
}

void Form::constant(int statement_operand, ptx::Type type) {
  const size_t first = static_cast<size_t>(flat(statement_operand));
  const size_t end = static_cast<size_t>(statement_operand) + 1 < flat_of_.size()
                         ? static_cast<size_t>(flat_of_[static_cast<size_t>(statement_operand) + 1])
                         : operands_.size();
  for (size_t k = first; k < end; ++k) {
    const ptx::Operand& o = *flat_operands_[k];
    if (is_immediate(o) || o.kind == ptx::OperandKind::symbol) set_constant(k, o, type);
  }
}

int Form::flat(int statement_operand) const {
  operand(statement_operand);
  return flat_of_[static_cast<size_t>(statement_operand)];
}

int Form::operand_count() const { return static_cast<int>(statement.operands.size()); }

const ptx::Operand& Form::operand(int statement_operand) const {
  if (statement_operand >= operand_count()) refuse("too few operands");
  return statement.operands[static_cast<size_t>(statement_operand)];
}

void Form::expect_operands(int least, int most) {
  if (operand_count() < least) refuse("too few operands");
  if (operand_count() > most) refuse("too many operands");
}

bool Form::take(std::string_view modifier) {
  for (size_t k = 0; k < taken_.size(); ++k)
    if (!taken_[k] && statement.modifiers[k] == modifier) {
      taken_[k] = true;
      return true;
    }
  return false;
}

int Form::take_one(std::initializer_list<std::string_view> alternatives) {
  int index = 0;
  for (std::string_view modifier : alternatives) {
    if (take(modifier)) return index;
    ++index;
  }
  return -1;
}

void Form::need(std::string_view modifier) {
  if (!take(modifier)) refuse("." + std::string(modifier) + " is missing");
}

bool Form::take_prefix(std::string_view prefix, std::string_view& rest) {
  for (size_t k = 0; k < taken_.size(); ++k)
    if (!taken_[k] && statement.modifiers[k].substr(0, prefix.size()) == prefix) {
      taken_[k] = true;
      rest = statement.modifiers[k].substr(prefix.size());
      return true;
    }
  return false;
}

void Form::ignore(std::initializer_list<std::string_view> modifiers) {
  for (std::string_view modifier : modifiers) take(modifier);
}

bool Form::has_type() const {
  for (size_t k = 0; k < taken_.size(); ++k)
    if (!taken_[k] && ptx::type_named(statement.modifiers[k])) return true;
  return false;
}

ptx::Type Form::take_type() {
  for (size_t k = 0; k < taken_.size(); ++k)
    if (!taken_[k])
      if (const auto type = ptx::type_named(statement.modifiers[k])) {
        taken_[k] = true;
        return *type;
      }
  refuse("a type is missing");
}

void Form::unknown() const { refuse("instruction not known"); }

void Form::refuse(const std::string& why) const {
  const ptx::Module& module = *code.program.module;
  throw Fault(FaultKind::unsupported, why + ": `" + ptx::statement_text(module, statement) + "`; in function " +
                                          std::string(plan.function->name) + " of kernel " + code.kernel_name() +
                                          ", at " + ptx::describe_location(module, statement.location));
}

void Form::keep_owner(std::shared_ptr<void> owner) { code.kept.push_back(std::move(owner)); }

void Form::finish() {
  for (size_t k = 0; k < taken_.size(); ++k)
    if (!taken_[k]) refuse("modifier ." + std::string(statement.modifiers[k]) + " not known");
  if (!instruction.handler) unknown();
}

}  // namespace foretoken::machine
