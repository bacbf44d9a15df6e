#include "body_parser.h"

#include <algorithm>

#include "declarations.h"
#include "parser.h"

namespace foretoken::ptx {

BodyParser::BodyParser(Module& module, Function& function)
    : module_(module), function_(function), lexer_(module, function.body_begin), source_lines_(module) {
  lexer_.context = [this] { return context(); };
}

std::string BodyParser::context() const {
  return std::string(function_.is_kernel ? "in kernel " : "in function ") + std::string(function_.name) + ", at " +
         describe_location(module_, location_);
}

void BodyParser::parse() {
  call_parameter_bytes_.push_back(0);
  scopes_.open();
  for (uint32_t i = 0; i < function_.returns.size(); ++i) {
    const Parameter& value = function_.returns[i];
    value.reg ? scopes_.declare_register(value.name, *value.reg)
              : scopes_.declare_symbol(value.name, SymbolKind::return_value, i);
  }
  for (uint32_t i = 0; i < function_.parameters.size(); ++i) {
    const Parameter& parameter = function_.parameters[i];
    parameter.reg ? scopes_.declare_register(parameter.name, *parameter.reg)
                  : scopes_.declare_symbol(parameter.name, SymbolKind::parameter, i);
  }
  lexer_.expect("{");
  while (scopes_.depth() > 0) item();
}

void BodyParser::item() {
  const Token token = lexer_.peek();
  if (token.is("@") || token.is("{") || token.is("}") || token.is(";")) {
    if (lexer_.accept("{")) return open_scope();
    if (lexer_.accept("}")) return close_scope();
    if (!lexer_.accept(";")) instruction(token);
    return;
  }
  if (token.kind == TokenKind::name) {
    lexer_.next();
    lexer_.accept(":") ? named(token) : instruction(token);
    return;
  }
  lexer_.next();
  if (token.is(".loc")) {
    location_ = source_lines_.parse(lexer_);
  } else if (token.is(".pragma")) {
    skip_pragma(lexer_);
  } else if (token.is(".reg")) {
    registers();
  } else if (token.is(".local")) {
    variables(StateSpace::local);
  } else if (token.is(".shared")) {
    variables(StateSpace::shared);
  } else if (token.is(".param")) {
    variables(StateSpace::param);
  } else {
    lexer_.fail("unknown directive '" + std::string(token.text) + "'", token.offset);
  }
}

void BodyParser::open_scope() {
  scopes_.open();
  call_parameter_bytes_.push_back(call_parameter_bytes_.back());
}

void BodyParser::close_scope() {
  call_parameter_bytes_.pop_back();
  if (scopes_.depth() == 1 && end_is_reached()) {
    Statement& end = function_.body.emplace_back();
    end.mnemonic = "ret";
    end.location = location_;
    end.text_offset = lexer_.end_of_previous();
  }
  if (const auto unknown = scopes_.close(function_.body))
    lexer_.fail("unknown label '" + std::string(unknown->name) + "'", unknown->text_offset);
}

bool BodyParser::end_is_reached() const {
  if (label_at_end_ || function_.body.empty() || function_.body.back().guard) return true;
  const std::string_view last = function_.body.back().mnemonic;
  return last != "ret" && last != "exit" && last != "trap" && last != "bra" && last != "brx";
}

// `.reg .b32 %r<83>, a, b;`
void BodyParser::registers() {
  const Type type = expect_type(lexer_);
  do {
    const Token name = lexer_.expect(TokenKind::name, "register name");
    const auto first = static_cast<uint32_t>(function_.registers.size());
    bool is_new = true;
    if (lexer_.accept("<")) {
      const uint32_t count = lexer_.expect_uint32("number of registers");
      lexer_.expect(">");
      is_new = scopes_.declare_registers(name.text, first, count);
      for (uint32_t i = 0; i < count; ++i) function_.registers.push_back({name.text, static_cast<int32_t>(i), type});
    } else {
      is_new = scopes_.declare_register(name.text, first);
      function_.registers.push_back({name.text, -1, type});
    }
    if (!is_new) lexer_.fail("register '" + std::string(name.text) + "' is declared twice", name.offset);
  } while (lexer_.accept(","));
  lexer_.expect(";");
}

void BodyParser::variables(StateSpace space) {
  for (Variable& variable : parse_variables(lexer_, space, false)) {
    if (!variable.initializer.empty()) lexer_.fail("initialiser inside a function");
    if (space == StateSpace::local) {
      variable.offset = append(function_.local_bytes, variable.size, variable.alignment);
      function_.local_alignment = std::max(function_.local_alignment, variable.alignment);
    } else if (space == StateSpace::param) {
      variable.offset = append(call_parameter_bytes_.back(), variable.size, variable.alignment);
      function_.call_parameter_bytes = std::max(function_.call_parameter_bytes, call_parameter_bytes_.back());
    }
    const auto index = static_cast<uint32_t>(function_.variables.size());
    if (!scopes_.declare_symbol(variable.name, SymbolKind::local_variable, index))
      lexer_.fail("variable '" + std::string(variable.name) + "' is declared twice");
    function_.variables.push_back(std::move(variable));
  }
}

void BodyParser::named(const Token& name) {
  bool is_new = true;
  if (lexer_.accept(".branchtargets")) {
    std::vector<LabelUse> labels;
    do {
      const Token label = lexer_.expect(TokenKind::name, "label");
      labels.push_back({.name = label.text, .text_offset = label.offset});
    } while (lexer_.accept(","));
    lexer_.expect(";");
    is_new = scopes_.declare_targets(name.text, std::move(labels));
  } else if (lexer_.accept(".callprototype")) {
    is_new =
        scopes_.declare_symbol(name.text, SymbolKind::prototype, static_cast<uint32_t>(function_.prototypes.size()));
    call_prototype(name.text);
  } else {
    is_new = scopes_.declare_label(name.text, static_cast<uint32_t>(function_.body.size()));
    label_at_end_ = true;
  }
  if (!is_new) lexer_.fail("'" + std::string(name.text) + "' is declared twice", name.offset);
}

// `(.param .b32 _) _ (.param .b64 _, .param .b64 _);`
void BodyParser::call_prototype(std::string_view name) {
  Prototype prototype;
  prototype.name = name;
  std::vector<Register> none;
  uint32_t bytes = 0;
  if (lexer_.peek().is("(")) prototype.returns = parse_parameters(lexer_, bytes, none);
  lexer_.expect("_");
  if (lexer_.peek().is("(")) prototype.parameters = parse_parameters(lexer_, bytes, none);
  lexer_.accept(".noreturn");
  if (!none.empty()) lexer_.fail("prototype with registers");
  lexer_.expect(";");
  function_.prototypes.push_back(std::move(prototype));
}

void BodyParser::instruction(const Token& first) {
  Statement statement;
  statement.location = location_;
  statement.text_offset = first.offset;
  Token mnemonic = first;
  if (first.is("@")) {
    lexer_.expect("@");
    statement.guard_negated = lexer_.accept("!");
    const Token guard = lexer_.expect(TokenKind::name, "predicate");
    statement.guard = scopes_.find_register(guard.text);
    if (!statement.guard || function_.registers[*statement.guard].type != Type::pred)
      lexer_.fail("guard '" + std::string(guard.text) + "' is not a predicate", guard.offset);
    mnemonic = lexer_.expect(TokenKind::name, "instruction");
  }
  statement.mnemonic = mnemonic.text;
  while (lexer_.peek().kind == TokenKind::directive) statement.modifiers.push_back(lexer_.next().text.substr(1));
  const bool is_branch = mnemonic.is("bra");
  const bool is_table_branch = mnemonic.is("brx");
  if (!lexer_.peek().is(";")) do {
      if (is_branch)
        statement.operands.push_back(label(statement));
      else if (is_table_branch && statement.operands.size() == 1)
        statement.operands.push_back(branch_targets(statement));
      else
        statement.operands.push_back(operand());
    } while (lexer_.accept(","));
  if (mnemonic.is("call")) normalize_call(statement);
  statement.text_length = lexer_.end_of_previous() - statement.text_offset;
  lexer_.expect(";");
  function_.body.push_back(std::move(statement));
  label_at_end_ = false;
}

// As written: [(returns),] callee [, (arguments)] [, prototype].
void BodyParser::normalize_call(Statement& statement) {
  std::vector<Operand>& as_written = statement.operands;
  size_t next = 0;
  const auto take_list = [&] {
    Operand list;
    list.kind = OperandKind::vector;
    if (next < as_written.size() && as_written[next].kind == OperandKind::vector) list = as_written[next++];
    return list;
  };
  std::vector<Operand> operands;
  operands.push_back(take_list());
  const bool has_callee =
      next < as_written.size() &&
      (as_written[next].kind == OperandKind::reg ||
       (as_written[next].kind == OperandKind::symbol && as_written[next].symbol == SymbolKind::function));
  if (!has_callee) lexer_.fail("call without a function", statement.text_offset);
  const bool is_indirect = as_written[next].kind == OperandKind::reg;
  operands.push_back(as_written[next++]);
  operands.push_back(take_list());
  if (is_indirect) {
    const bool has_prototype = next < as_written.size() && as_written[next].kind == OperandKind::symbol &&
                               as_written[next].symbol == SymbolKind::prototype;
    if (!has_prototype) lexer_.fail("indirect call without a prototype", statement.text_offset);
    operands.push_back(as_written[next++]);
  }
  if (next != as_written.size()) lexer_.fail("unknown operand of a call", statement.text_offset);
  as_written = std::move(operands);
}

void parse_body(Module& module, Function& function) {
  if (function.body_parsed || function.is_declared_only) return;
  BodyParser(module, function).parse();
  function.body_parsed = true;
}

}  // namespace foretoken::ptx
