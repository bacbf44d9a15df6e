#include "declarations.h"
#include "lexer.h"
#include "parser.h"

namespace foretoken::ptx {
namespace {

class ModuleParser {
 public:
  explicit ModuleParser(Module& module) : module_(module), lexer_(module, 0) {}

  void parse() {
    while (lexer_.peek().kind != TokenKind::end) item();
  }

 private:
  void item() {
    if (lexer_.accept(".version")) {
      module_.version = lexer_.expect(TokenKind::number, "version").text;
    } else if (lexer_.accept(".target")) {
      module_.target = lexer_.expect(TokenKind::name, "target").text;
      while (lexer_.accept(",")) lexer_.expect(TokenKind::name, "target option");  // debug
    } else if (lexer_.accept(".address_size")) {
      if (lexer_.expect_uint32("address size") != 64) lexer_.fail("only 64-bit addresses are supported");
    } else if (lexer_.accept(".file")) {
      file();
    } else if (lexer_.accept(".section")) {
      section();
    } else if (lexer_.accept(".alias")) {
      alias();
    } else if (lexer_.accept(".pragma")) {
      skip_pragma(lexer_);
    } else if (!lexer_.accept(";")) {
      symbol();
    }
  }

  void file() {
    const uint32_t number = lexer_.expect_uint32("file number");
    const std::string_view quoted = lexer_.expect(TokenKind::string, "file name").text;
    module_.files[number] = std::string(quoted.substr(1, quoted.size() - 2));
    while (lexer_.accept(",")) lexer_.expect(TokenKind::number, "time stamp or size");
  }

  // Of debugging sections only the names of inlined functions are of use.
  void section() {
    const bool strings = lexer_.peek().is(".debug_str");
    while (lexer_.peek().kind == TokenKind::directive) lexer_.next();
    if (!strings) return lexer_.skip_block();
    lexer_.expect("{");
    while (!lexer_.accept("}")) {
      const Token token = lexer_.next();
      if (token.kind == TokenKind::end) lexer_.fail("section without end");
      if (token.kind == TokenKind::name && lexer_.accept(":"))
        module_.debug_labels[token.text] = lexer_.peek().offset;
      else
        lexer_.skip_to_any("\n}");
    }
  }

  void alias() {
    const std::string_view name = lexer_.expect(TokenKind::name, "alias").text;
    lexer_.expect(",");
    const Token aliased = lexer_.expect(TokenKind::name, "function");
    const auto found = module_.function_index.find(aliased.text);
    if (found == module_.function_index.end()) lexer_.fail("alias of an unknown function", aliased.offset);
    module_.function_index[name] = found->second;
    lexer_.expect(";");
  }

  void symbol() {
    bool is_extern = false;
    for (bool more = true; more;) {
      more = false;
      if (lexer_.accept(".extern")) is_extern = more = true;
      for (const char* linkage : {".visible", ".weak", ".common"}) more |= lexer_.accept(linkage);
    }
    if (lexer_.accept(".entry")) return function(true);
    if (lexer_.accept(".func")) return function(false);
    const std::pair<const char*, StateSpace> spaces[] = {
        {".global", StateSpace::global}, {".const", StateSpace::constant}, {".shared", StateSpace::shared}};
    for (const auto& [name, space] : spaces)
      if (lexer_.accept(name)) {
        for (Variable& variable : parse_variables(lexer_, space, is_extern)) add(std::move(variable));
        return;
      }
    lexer_.fail("unknown directive '" + std::string(lexer_.peek().text) + "'");
  }

  void add(Variable variable) {
    const auto [known, added] =
        module_.variable_index.emplace(variable.name, static_cast<uint32_t>(module_.variables.size()));
    if (added)
      module_.variables.push_back(std::move(variable));
    else if (module_.variables[known->second].is_extern)
      module_.variables[known->second] = std::move(variable);
    else if (!variable.is_extern)
      lexer_.fail("variable '" + std::string(variable.name) + "' is declared twice");
  }

  void function(bool is_kernel) {
    auto parsed = std::make_unique<Function>();
    Function& f = *parsed;
    f.is_kernel = is_kernel;
    f.line = lexer_.line_of(lexer_.peek().offset);
    if (lexer_.accept(".attribute"))
      while (!lexer_.accept(")")) lexer_.next();
    if (lexer_.peek().is("(")) f.returns = parse_parameters(lexer_, f.return_bytes, f.registers);
    f.name = lexer_.expect(TokenKind::name, "function name").text;
    if (lexer_.peek().is("(")) f.parameters = parse_parameters(lexer_, f.parameter_bytes, f.registers);
    while (!lexer_.peek().is("{") && !lexer_.peek().is(";")) bound(f);
    f.is_declared_only = lexer_.accept(";");
    if (!f.is_declared_only) {
      f.body_begin = lexer_.peek().offset;
      lexer_.skip_block();
    }
    add(std::move(parsed));
  }

  void triple(uint32_t (&values)[3]) {
    values[0] = lexer_.expect_uint32("bound");
    values[1] = lexer_.accept(",") ? lexer_.expect_uint32("bound") : 1;
    values[2] = lexer_.accept(",") ? lexer_.expect_uint32("bound") : 1;
  }

  void bound(Function& f) {
    const Token directive = lexer_.next();
    if (directive.is(".maxntid"))
      triple(f.bounds.max_threads);
    else if (directive.is(".reqntid"))
      triple(f.bounds.required_threads);
    else if (directive.is(".reqnctapercluster"))
      triple(f.bounds.cluster);
    else if (directive.is(".minnctapersm"))
      f.bounds.min_blocks = lexer_.expect_uint32("blocks");
    else if (directive.is(".maxnreg"))
      f.bounds.max_registers = lexer_.expect_uint32("registers");
    else if (directive.is(".maxclusterrank"))
      f.bounds.max_cluster_rank = lexer_.expect_uint32("cluster rank");
    else if (directive.is(".explicitcluster"))
      f.bounds.explicit_cluster = true;
    else if (directive.is(".noreturn"))
      f.is_noreturn = true;
    else if (directive.is(".abi_preserve") || directive.is(".abi_preserve_control"))
      lexer_.expect_uint32("registers");
    else if (directive.is(".pragma"))
      skip_pragma(lexer_);
    else
      lexer_.fail("unknown directive '" + std::string(directive.text) + "'", directive.offset);
  }

  // The definition takes the place of declarations before it, so that indices stay.
  void add(std::unique_ptr<Function> f) {
    const auto [known, added] =
        module_.function_index.emplace(f->name, static_cast<uint32_t>(module_.functions.size()));
    if (added)
      module_.functions.push_back(std::move(f));
    else if (module_.functions[known->second]->is_declared_only && !f->is_declared_only)
      *module_.functions[known->second] = std::move(*f);
    else if (!f->is_declared_only)
      lexer_.fail("function '" + std::string(f->name) + "' is defined twice");
  }

  Module& module_;
  Lexer lexer_;
};

}  // namespace

std::unique_ptr<Module> parse_module(std::string text, std::string name) {
  auto module = std::make_unique<Module>();
  module->name = std::move(name);
  module->text = std::move(text);
  // Text from a fatbin ends in a zero byte.
  while (!module->text.empty() && module->text.back() == '\0') module->text.pop_back();
  ModuleParser(*module).parse();
  return module;
}

}  // namespace foretoken::ptx
