#include "lexer.h"

#include <algorithm>
#include <bit>
#include <charconv>

namespace foretoken::ptx {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool starts_name(char c) { return is_letter(c) || c == '_' || c == '$' || c == '%'; }
bool continues_name(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '$'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

Lexer::Lexer(const Module& module, uint32_t offset) : module_(module), text_(module.text), position_(offset) {
  previous_end_ = offset;
  token_ = scan();
}

Token Lexer::next() {
  Token taken = token_;
  previous_end_ = position_;
  token_ = scan();
  return taken;
}

bool Lexer::accept(std::string_view text) {
  if (!token_.is(text)) return false;
  next();
  return true;
}

Token Lexer::expect(std::string_view text) {
  if (!token_.is(text)) fail("expected '" + std::string(text) + "', got '" + std::string(token_.text) + "'");
  return next();
}

Token Lexer::expect(TokenKind kind, const char* what) {
  if (token_.kind != kind) fail(std::string("expected ") + what + ", got '" + std::string(token_.text) + "'");
  return next();
}

uint32_t Lexer::expect_uint32(const char* what) {
  const Token token = expect(TokenKind::number, what);
  const Operand value = parse_number(*this, token);
  if (value.kind != OperandKind::integer || value.bits > UINT32_MAX)
    fail(std::string(what) + ": not an unsigned 32-bit integer", token.offset);
  return static_cast<uint32_t>(value.bits);
}

void Lexer::skip_blanks() {
  while (position_ < text_.size()) {
    const std::string_view rest = text_.substr(position_, 2);
    if (is_blank(rest[0])) {
      ++position_;
    } else if (rest == "//") {
      position_ = static_cast<uint32_t>(std::min(text_.find('\n', position_), text_.size()));
    } else if (rest == "/*") {
      const size_t end = text_.find("*/", position_ + 2);
      if (end == std::string_view::npos) fail("comment without end", position_);
      position_ = static_cast<uint32_t>(end) + 2;
    } else {
      return;
    }
  }
}

uint32_t Lexer::scan_while(uint32_t begin, bool (*belongs)(char)) const {
  while (begin < text_.size() && belongs(text_[begin])) ++begin;
  return begin;
}

// Behind the number at `begin`. Only decimals have points and signed exponents: 0x1E-3 is a subtraction.
uint32_t Lexer::scan_number(uint32_t begin) const {
  uint32_t end = scan_while(begin, [](char c) { return is_digit(c) || is_letter(c); });
  const std::string_view word = text_.substr(begin, end - begin);
  const bool prefixed = word.size() > 1 && word[0] == '0' && is_letter(word[1]);
  if (prefixed) return end;
  if (end < text_.size() && text_[end] == '.')
    end = scan_while(end + 1, [](char c) { return is_digit(c) || is_letter(c); });
  const bool has_exponent = text_[end - 1] == 'e' || text_[end - 1] == 'E';
  if (has_exponent && end < text_.size() && (text_[end] == '-' || text_[end] == '+'))
    end = scan_while(end + 1, is_digit);
  return end;
}

Token Lexer::scan() {
  skip_blanks();
  const uint32_t begin = position_;
  if (begin >= text_.size()) return {TokenKind::end, "", begin};
  TokenKind kind = TokenKind::symbol;
  uint32_t end = begin + 1;
  const char first = text_[begin];
  if (starts_name(first)) {
    kind = TokenKind::name;
    end = scan_while(begin + 1, continues_name);
  } else if (is_digit(first)) {
    kind = TokenKind::number;
    end = scan_number(begin);
  } else if (first == '.') {
    kind = TokenKind::directive;
    end = scan_while(begin + 1, continues_name);
    while (text_.substr(end, 2) == "::") end = scan_while(end + 2, continues_name);
  } else if (first == '"') {
    kind = TokenKind::string;
    do {
      const size_t quote = text_.find('"', end);
      if (quote == std::string_view::npos) fail("string without end", begin);
      end = static_cast<uint32_t>(quote) + 1;
    } while (text_[end - 2] == '\\');
  }
  position_ = end;
  return {kind, text_.substr(begin, end - begin), begin};
}

void Lexer::skip_block() {
  if (!token_.is("{")) fail("expected '{'");
  // Braces cannot be counted in comments and strings, which is why this does not just search for them.
  int depth = 1;
  while (depth > 0) {
    skip_blanks();
    if (position_ >= text_.size()) fail("'{' without '}'");
    const char c = text_[position_];
    if (c == '"') {
      scan();
      continue;
    }
    depth += (c == '{') - (c == '}');
    ++position_;
    if (depth > 0) position_ = static_cast<uint32_t>(std::min(text_.find_first_of("{}\"/", position_), text_.size()));
    // A lone '/' is not a comment: step over it.
    if (depth > 0 && position_ + 1 < text_.size() && text_[position_] == '/' && text_[position_ + 1] != '/' &&
        text_[position_ + 1] != '*')
      ++position_;
  }
  previous_end_ = position_;
  token_ = scan();
}

void Lexer::skip_to_any(const char* characters) {
  position_ = static_cast<uint32_t>(std::min(text_.find_first_of(characters, token_.offset), text_.size()));
  previous_end_ = position_;
  token_ = scan();
}

uint32_t Lexer::line_of(uint32_t offset) {
  counted_line_ += static_cast<uint32_t>(std::count(text_.begin() + counted_offset_, text_.begin() + offset, '\n'));
  counted_offset_ = offset;
  return counted_line_;
}

void Lexer::fail(const std::string& message, uint32_t offset) const {
  offset = std::min<uint32_t>(offset, static_cast<uint32_t>(text_.size()));
  const auto line = 1 + std::count(text_.begin(), text_.begin() + offset, '\n');
  const size_t before = offset == 0 ? std::string_view::npos : text_.rfind('\n', offset - 1);
  const size_t begin = before == std::string_view::npos ? 0 : before + 1;
  std::string_view source = text_.substr(begin, text_.find('\n', begin) - begin);
  source.remove_prefix(std::min(source.find_first_not_of(" \t"), source.size()));
  std::string where = module_.name + ":" + std::to_string(line) + ": " + message;
  if (context) where += "; " + context();
  throw ParseError(where + ": `" + std::string(source.substr(0, 300)) + "`");
}

Operand parse_number(const Lexer& lexer, const Token& token) {
  std::string_view digits = token.text;
  const auto number = [&](auto& value, auto... how) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, how...);
    if (error != std::errc() || end != digits.data() + digits.size())
      lexer.fail("not a number: '" + std::string(token.text) + "'", token.offset);
  };
  Operand operand;
  operand.kind = OperandKind::integer;
  const char prefix = digits.size() > 1 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '\0';
  if (prefix == 'f' || prefix == 'd') {
    operand.kind = prefix == 'f' ? OperandKind::float32 : OperandKind::float64;
    digits.remove_prefix(2);
    if (digits.size() != (prefix == 'f' ? 8 : 16)) lexer.fail("0f takes 8 hexadecimal digits, 0d 16", token.offset);
    number(operand.bits, 16);
    return operand;
  }
  int base = 10;
  if (prefix == 'x' || prefix == 'b') {
    base = prefix == 'x' ? 16 : 2;
    digits.remove_prefix(2);
  } else if (digits.find_first_of(".eE") != std::string_view::npos) {
    double value = 0;
    number(value);
    operand.kind = OperandKind::float64;
    operand.bits = std::bit_cast<uint64_t>(value);
    return operand;
  } else if (digits.size() > 1 && digits[0] == '0') {
    base = 8;
  }
  if (digits.back() == 'U') digits.remove_suffix(1);
  number(operand.bits, base);
  return operand;
}

}  // namespace foretoken::ptx
