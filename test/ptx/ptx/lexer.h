// PTX tokens on demand, as views into the text.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "module.h"

namespace foretoken::ptx {

enum class TokenKind : uint8_t {
  name,       // %r1, $L__BB0_2, mma, _: whatever may be declared, and mnemonics
  directive,  // .reg, .shared::cta, .m16n8k16: a dot and what follows
  number,     // 12, 0x1FU, 0f3F800000, 1.5e-3
  string,     // "…", with the quotes
  symbol,     // one character of punctuation
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;
  uint32_t offset = 0;  // in the module's text
  bool is(std::string_view expected) const { return text == expected && kind != TokenKind::string; }
};

class Lexer {
 public:
  Lexer(const Module& module, uint32_t offset);

  const Token& peek() const { return token_; }
  Token next();
  bool accept(std::string_view text);   // takes the next token if it reads so
  Token expect(std::string_view text);  // takes the next token or fails
  Token expect(TokenKind kind, const char* what);
  uint32_t expect_uint32(const char* what);

  // From the '{' that is next to behind its '}', without looking at what is between.
  void skip_block();
  void skip_to_any(const char* characters);  // comments and strings are not looked at

  uint32_t end_of_previous() const { return previous_end_; }
  uint32_t line_of(uint32_t offset);  // 1-based; offsets are asked for in ascending order
  // Throws ParseError "module:line: message; context: `the line`"; offset defaults to the next token.
  [[noreturn]] void fail(const std::string& message) const { fail(message, token_.offset); }
  [[noreturn]] void fail(const std::string& message, uint32_t offset) const;
  std::function<std::string()> context;  // what is being parsed, for messages

 private:
  void skip_blanks();
  Token scan();
  uint32_t scan_while(uint32_t begin, bool (*belongs)(char)) const;
  uint32_t scan_number(uint32_t begin) const;

  const Module& module_;
  std::string_view text_;
  uint32_t position_ = 0;  // behind token_
  uint32_t previous_end_ = 0;
  uint32_t counted_offset_ = 0, counted_line_ = 1;  // of line_of
  Token token_;
};

// Values of number tokens. A decimal literal with a point is a double (kind float64).
Operand parse_number(const Lexer& lexer, const Token& token);

}  // namespace foretoken::ptx
