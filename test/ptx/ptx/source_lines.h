// `.loc` directives to chains of source locations.
#pragma once
#include <cstdint>
#include <map>
#include <tuple>

#include "lexer.h"
#include "module.h"

namespace foretoken::ptx {

class SourceLines {
 public:
  explicit SourceLines(Module& module) : module_(module) {}

  // From behind `.loc`. Returns the index in Module::locations that holds for the instructions from here on.
  int32_t parse(Lexer& lexer);

 private:
  using Place = std::tuple<uint32_t, uint32_t, uint32_t>;  // file, line, column

  Place parse_place(Lexer& lexer);
  int32_t add(const Place& place, std::string_view function_label, int32_t inlined_at);

  Module& module_;
  std::map<Place, int32_t> latest_;  // what `inlined_at` of a place means: the last location there
};

}  // namespace foretoken::ptx
