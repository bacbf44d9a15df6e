// The parser of one function body; see parse_body in parser.h.
#pragma once
#include <string>
#include <vector>

#include "lexer.h"
#include "module.h"
#include "scope.h"
#include "source_lines.h"

namespace foretoken::ptx {

class BodyParser {
 public:
  BodyParser(Module& module, Function& function);
  void parse();

 private:
  // Directives and declarations: body_parser.cpp.
  void item();
  void open_scope();
  void close_scope();
  bool end_is_reached() const;
  void registers();
  void variables(StateSpace space);
  void named(const Token& name);  // `label:`, `table: .branchtargets …`, `prototype: .callprototype …`
  void call_prototype(std::string_view name);
  void instruction(const Token& mnemonic);
  void normalize_call(Statement& statement);

  // Operands: operands.cpp.
  Operand operand();
  Operand named_operand();
  void special_register(const Token& token, Operand& operand);
  Operand negated_predicate();
  Operand pair(Operand first);
  Operand list(const char* begin, const char* end);
  Operand address();
  Operand immediate();
  int64_t offset();  // `+4`, `+-4`, or nothing
  LabelUse label_use(const Statement& statement);
  Operand label(const Statement& statement);           // of `bra`
  Operand branch_targets(const Statement& statement);  // of `brx.idx`

  std::string context() const;

  Module& module_;
  Function& function_;
  Lexer lexer_;
  Scopes scopes_;
  SourceLines source_lines_;
  int32_t location_ = -1;
  bool label_at_end_ = false;                   // a label stands behind the last instruction so far
  std::vector<uint32_t> call_parameter_bytes_;  // of each open scope: the call area is free again behind its end
};

}  // namespace foretoken::ptx
