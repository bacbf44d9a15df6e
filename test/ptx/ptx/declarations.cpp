#include "declarations.h"

#include <bit>
#include <cstring>

namespace foretoken::ptx {
namespace {

uint64_t parse_dimensions(Lexer& lexer, bool& open_ended) {
  uint64_t count = 1;
  open_ended = false;
  while (lexer.accept("[")) {
    if (lexer.peek().is("]"))
      open_ended = true;
    else
      count *= lexer.expect_uint32("array length");
    lexer.expect("]");
  }
  return count;
}

uint32_t parse_alignment(Lexer& lexer) {
  const uint32_t offset = lexer.peek().offset;
  const uint32_t alignment = lexer.expect_uint32("alignment");
  if (!std::has_single_bit(alignment)) lexer.fail("alignment is not a power of two", offset);
  return alignment;
}

uint32_t vector_length(Lexer& lexer) {
  if (lexer.accept(".v2")) return 2;
  if (lexer.accept(".v4")) return 4;
  return 1;
}

// Fills a variable's initialiser element by element, growing it.
class InitializerParser {
 public:
  InitializerParser(Lexer& lexer, Variable& variable)
      : lexer_(lexer), variable_(variable), width_(static_cast<uint32_t>(type_bits(variable.type)) / 8) {}

  void parse() {
    if (lexer_.accept("{")) {
      if (!lexer_.peek().is("}")) do
          parse();
        while (lexer_.accept(","));
      lexer_.expect("}");
    } else {
      element();
    }
  }

 private:
  void put(uint64_t bits) {
    for (uint32_t byte = 0; byte < width_; ++byte)
      variable_.initializer.push_back(byte < 8 ? static_cast<uint8_t>(bits >> (8 * byte)) : 0);
  }

  int64_t addend() {
    int64_t sum = 0;
    while (lexer_.peek().is("+") || lexer_.peek().is("-")) {
      bool minus = false;  // `a+-4` is usual
      while (lexer_.peek().is("+") || lexer_.peek().is("-")) minus ^= lexer_.next().is("-");
      const auto value = static_cast<int64_t>(parse_number(lexer_, lexer_.expect(TokenKind::number, "offset")).bits);
      sum += minus ? -value : value;
    }
    return sum;
  }

  void relocation(uint8_t shift) {
    Variable::Relocation r;
    r.offset = variable_.initializer.size();
    r.width = static_cast<uint8_t>(width_);
    r.shift = shift;
    r.generic = lexer_.peek().is("generic");
    if (r.generic) {
      lexer_.next();
      lexer_.expect("(");
    }
    r.symbol = lexer_.expect(TokenKind::name, "symbol").text;
    r.addend = addend();
    if (r.generic) {
      lexer_.expect(")");
      r.addend += addend();
    }
    variable_.relocations.push_back(r);
    put(0);
  }

  // 0xFF00(symbol): the byte that the mask selects.
  void masked_relocation(uint64_t mask, uint32_t offset) {
    const int shift = mask == 0 ? 0 : std::countr_zero(mask);
    if (width_ != 1 || shift % 8 != 0 || mask >> shift != 0xFF)
      lexer_.fail("mask is not one byte of an address", offset);
    lexer_.expect("(");
    relocation(static_cast<uint8_t>(shift));
    lexer_.expect(")");
  }

  void number(bool minus) {
    const Token token = lexer_.expect(TokenKind::number, "initialiser");
    const Operand value = parse_number(lexer_, token);
    if (lexer_.peek().is("(") && !minus) return masked_relocation(value.bits, token.offset);
    uint64_t bits = value.bits;
    if (value.kind == OperandKind::float64 && variable_.type == Type::f32)
      bits = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(bits)));
    else if (value.kind == OperandKind::float64 && width_ != 8)
      lexer_.fail("double in an initialiser of another type", token.offset);
    if (minus && value.kind == OperandKind::integer)
      bits = -bits;
    else if (minus)
      bits ^= uint64_t{1} << (8 * width_ - 1);
    put(bits);
  }

  void element() {
    if (lexer_.peek().kind == TokenKind::name) return relocation(0);
    number(lexer_.accept("-"));
  }

  Lexer& lexer_;
  Variable& variable_;
  uint32_t width_;
};

Parameter parse_parameter(Lexer& lexer, std::vector<Register>& registers) {
  Parameter parameter;
  const bool in_register = lexer.accept(".reg");
  if (!in_register) lexer.expect(".param");
  uint32_t alignment = 0;
  if (lexer.accept(".align")) alignment = parse_alignment(lexer);
  parameter.type = expect_type(lexer);
  if (lexer.accept(".ptr")) {  // about what the pointer points to: nothing we use
    for (const char* space : {".global", ".const", ".shared", ".local"}) lexer.accept(space);
    if (lexer.accept(".align")) parse_alignment(lexer);
  }
  parameter.name = lexer.expect(TokenKind::name, "parameter name").text;
  bool open_ended = false;
  const uint64_t count = parse_dimensions(lexer, open_ended);
  if (open_ended) lexer.fail("parameter of unknown length");
  const uint32_t width = static_cast<uint32_t>(type_bits(parameter.type)) / 8;
  parameter.size = static_cast<uint32_t>(width * count);
  parameter.alignment = alignment != 0 ? alignment : std::max(width, 1u);
  if (in_register) {
    parameter.reg = static_cast<uint32_t>(registers.size());
    registers.push_back({parameter.name, -1, parameter.type});
  }
  return parameter;
}

}  // namespace

Type expect_type(Lexer& lexer) {
  const Token token = lexer.expect(TokenKind::directive, "a type");
  const auto type = type_named(token.text.substr(1));
  if (!type) lexer.fail("unknown type '" + std::string(token.text) + "'", token.offset);
  return *type;
}

void skip_pragma(Lexer& lexer) {
  do lexer.expect(TokenKind::string, "pragma");
  while (lexer.accept(","));
  lexer.expect(";");
}

uint32_t append(uint32_t& bytes, uint64_t size, uint32_t alignment) {
  const uint32_t offset = (bytes + alignment - 1) / alignment * alignment;
  bytes = offset + static_cast<uint32_t>(size);
  return offset;
}

std::vector<Variable> parse_variables(Lexer& lexer, StateSpace space, bool is_extern) {
  Variable common;
  common.space = space;
  common.is_extern = is_extern;
  uint32_t alignment = 0;
  uint32_t length = 1;
  for (bool more = true; more;) {
    more = false;
    if (lexer.accept(".align")) alignment = parse_alignment(lexer), more = true;
    if (lexer.accept(".attribute")) {  // .managed, .unified: host access, which the runtime grants anyway
      while (!lexer.accept(")")) lexer.next();
      more = true;
    }
    const uint32_t vector = vector_length(lexer);
    if (vector > 1) length = vector, more = true;
  }
  common.type = expect_type(lexer);
  if (common.type == Type::pred) lexer.fail("a variable cannot be a predicate");
  const uint32_t width = static_cast<uint32_t>(type_bits(common.type)) / 8 * length;
  common.alignment = alignment != 0 ? alignment : width;

  std::vector<Variable> variables;
  do {
    Variable variable = common;
    const Token name = lexer.expect(TokenKind::name, "variable name");
    variable.name = name.text;
    bool open_ended = false;
    variable.size = width * parse_dimensions(lexer, open_ended);
    if (lexer.accept("=")) {
      InitializerParser(lexer, variable).parse();
      if (open_ended) variable.size = variable.initializer.size();
      if (variable.initializer.size() > variable.size) lexer.fail("initialiser longer than its variable", name.offset);
      variable.initializer.resize(variable.size);
    } else if (open_ended) {
      variable.size = 0;
      if (!is_extern) lexer.fail("array of unknown length", name.offset);
    }
    variables.push_back(std::move(variable));
  } while (lexer.accept(","));
  lexer.expect(";");
  return variables;
}

std::vector<Parameter> parse_parameters(Lexer& lexer, uint32_t& bytes, std::vector<Register>& registers) {
  std::vector<Parameter> parameters;
  bytes = 0;
  lexer.expect("(");
  if (!lexer.peek().is(")")) do {
      parameters.push_back(parse_parameter(lexer, registers));
      Parameter& added = parameters.back();
      if (!added.reg) added.offset = append(bytes, added.size, added.alignment);
    } while (lexer.accept(","));
  lexer.expect(")");
  return parameters;
}

}  // namespace foretoken::ptx
