#include "source_lines.h"

namespace foretoken::ptx {

int32_t SourceLines::parse(Lexer& lexer) {
  const Place place = parse_place(lexer);
  std::string_view function_label;
  int32_t inlined_at = -1;
  while (lexer.accept(",")) {
    if (lexer.accept("function_name")) {
      function_label = lexer.expect(TokenKind::name, "label").text;
      if (lexer.accept("+")) lexer.expect(TokenKind::number, "offset");
    } else {
      lexer.expect("inlined_at");
      const Place outer = parse_place(lexer);
      const auto known = latest_.find(outer);
      inlined_at = known != latest_.end() ? known->second : add(outer, {}, -1);
    }
  }
  return add(place, function_label, inlined_at);
}

SourceLines::Place SourceLines::parse_place(Lexer& lexer) {
  const uint32_t file = lexer.expect_uint32("file number");
  const uint32_t line = lexer.expect_uint32("line");
  return {file, line, lexer.expect_uint32("column")};
}

int32_t SourceLines::add(const Place& place, std::string_view function_label, int32_t inlined_at) {
  const auto [known, added] = latest_.emplace(place, -1);
  if (!added) {
    const SourceLocation& last = module_.locations[known->second];
    if (last.function_label == function_label && last.inlined_at == inlined_at) return known->second;
  }
  const auto [file, line, column] = place;
  known->second = static_cast<int32_t>(module_.locations.size());
  module_.locations.push_back({file, line, column, function_label, inlined_at});
  return known->second;
}

}  // namespace foretoken::ptx
