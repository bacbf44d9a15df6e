#include <bit>
#include <charconv>
#include <tuple>

#include "body_parser.h"

namespace foretoken::ptx {

Operand BodyParser::operand() {
  const Token& token = lexer_.peek();
  if (token.is("{")) return list("{", "}");
  if (token.is("(")) return list("(", ")");
  if (token.is("[")) return address();
  if (token.is("!")) return negated_predicate();
  if (token.kind != TokenKind::name) return immediate();
  Operand named = named_operand();
  if (named.kind == OperandKind::symbol) named.offset = offset();
  return lexer_.accept("|") ? pair(std::move(named)) : named;
}

// What a single name stands for: register, symbol, special register, `_`.
Operand BodyParser::named_operand() {
  const Token token = lexer_.expect(TokenKind::name, "operand");
  Operand operand;
  const auto symbol = [&](SymbolKind kind, uint32_t index) {
    operand.kind = OperandKind::symbol;
    operand.symbol = kind;
    operand.index = index;
  };
  if (token.is("_")) {
    operand.kind = OperandKind::sink;
  } else if (const auto reg = scopes_.find_register(token.text)) {
    operand.kind = OperandKind::reg;
    operand.reg = *reg;
  } else if (const auto local = scopes_.find_symbol(token.text)) {
    symbol(local->first, local->second);
  } else if (const auto variable = module_.variable_index.find(token.text); variable != module_.variable_index.end()) {
    symbol(SymbolKind::module_variable, variable->second);
  } else if (const auto called = module_.function_index.find(token.text); called != module_.function_index.end()) {
    symbol(SymbolKind::function, called->second);
  } else if (token.is("WARP_SZ")) {
    operand.kind = OperandKind::integer;
    operand.bits = 32;
  } else {
    special_register(token, operand);
  }
  return operand;
}

void BodyParser::special_register(const Token& token, Operand& operand) {
  operand.kind = OperandKind::special;
  std::string_view name = token.text;
  if (lexer_.peek().kind == TokenKind::directive) {  // %tid.x is two tokens but one name
    const Token component = lexer_.next();
    name = std::string_view(module_.text).substr(token.offset, component.offset + component.text.size() - token.offset);
  }
  constexpr std::string_view kEnvironment = "%envreg";
  if (name.starts_with(kEnvironment) && name.size() > kEnvironment.size()) {
    const std::string_view number = name.substr(kEnvironment.size());
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), operand.offset);
    if (error == std::errc() && end == number.data() + number.size() && operand.offset < 32) name = kEnvironment;
  }
  const auto special = special_register_named(name);
  if (!special) lexer_.fail("unknown name '" + std::string(name) + "'", token.offset);
  operand.special = *special;
}

Operand BodyParser::negated_predicate() {
  lexer_.expect("!");
  const uint32_t text_offset = lexer_.peek().offset;
  Operand predicate = named_operand();
  if (predicate.kind != OperandKind::reg || function_.registers[predicate.reg].type != Type::pred)
    lexer_.fail("'!' stands before predicates only", text_offset);
  predicate.negated = true;
  return predicate;
}

Operand BodyParser::pair(Operand first) {
  Operand pair;
  pair.kind = OperandKind::pair;
  const uint32_t text_offset = lexer_.peek().offset;
  pair.elements = {std::move(first), named_operand()};
  for (const Operand& half : pair.elements)
    if (half.kind != OperandKind::reg && half.kind != OperandKind::sink)
      lexer_.fail("'|' stands between registers only", text_offset);
  return pair;
}

Operand BodyParser::list(const char* begin, const char* end) {
  Operand list;
  list.kind = OperandKind::vector;
  lexer_.expect(begin);
  if (!lexer_.peek().is(end)) do
      list.elements.push_back(operand());
    while (lexer_.accept(","));
  lexer_.expect(end);
  return list;
}

// `[base+offset]`, `[base, {c0, c1}]`.
Operand BodyParser::address() {
  Operand address;
  address.kind = OperandKind::address;
  lexer_.expect("[");
  const uint32_t text_offset = lexer_.peek().offset;
  address.elements.push_back(lexer_.peek().kind == TokenKind::name ? named_operand() : immediate());
  const OperandKind base = address.elements[0].kind;
  if (base != OperandKind::reg && base != OperandKind::symbol && base != OperandKind::integer)
    lexer_.fail("not an address", text_offset);
  address.offset = offset();
  while (lexer_.accept(",")) address.elements.push_back(operand());
  lexer_.expect("]");
  return address;
}

// A number behind any of + - ~, folded.
Operand BodyParser::immediate() {
  const Token token = lexer_.next();
  if (token.kind == TokenKind::number) return parse_number(lexer_, token);
  if (!token.is("-") && !token.is("+") && !token.is("~"))
    lexer_.fail("unknown operand '" + std::string(token.text) + "'", token.offset);
  Operand value = immediate();
  const bool is_integer = value.kind == OperandKind::integer;
  if (token.is("-") && is_integer)
    value.bits = -value.bits;
  else if (token.is("-"))
    value.bits ^= value.kind == OperandKind::float32 ? uint64_t{1} << 31 : uint64_t{1} << 63;
  else if (!token.is("+") && !is_integer)
    lexer_.fail("operator on a float", token.offset);
  else if (token.is("~"))
    value.bits = ~value.bits;
  return value;
}

int64_t BodyParser::offset() {
  int64_t sum = 0;
  while (lexer_.peek().is("+") || lexer_.peek().is("-")) {
    if (lexer_.peek().is("+")) lexer_.next();
    const uint32_t text_offset = lexer_.peek().offset;
    const Operand value = immediate();
    if (value.kind != OperandKind::integer) lexer_.fail("offset is not an integer", text_offset);
    sum += static_cast<int64_t>(value.bits);
  }
  return sum;
}

// The statement being parsed is not in the body yet, so its number is the body's length.
LabelUse BodyParser::label_use(const Statement& statement) {
  const Token token = lexer_.expect(TokenKind::name, "label");
  return {.name = token.text,
          .statement = static_cast<uint32_t>(function_.body.size()),
          .operand = static_cast<uint32_t>(statement.operands.size()),
          .text_offset = token.offset};
}

Operand BodyParser::label(const Statement& statement) {
  Operand operand;
  operand.kind = OperandKind::label;
  scopes_.use_label(label_use(statement));
  return operand;
}

Operand BodyParser::branch_targets(const Statement& statement) {
  Operand operand;
  operand.kind = OperandKind::vector;
  scopes_.use_targets(label_use(statement));
  return operand;
}

}  // namespace foretoken::ptx
