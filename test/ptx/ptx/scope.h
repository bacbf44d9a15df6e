// What names mean inside a body. Each `{ }` opens a scope of its own for registers, variables and labels; inline
// assembly declares `p` and `L1` in hundreds of them.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "module.h"

namespace foretoken::ptx {

// A branch to a name, known only when the scope that declares the label closes.
struct LabelUse {
  std::string_view name;
  uint32_t statement = 0;
  uint32_t operand = 0;
  uint32_t element = UINT32_MAX;  // of a vector of labels; UINT32_MAX: the operand itself
  uint32_t text_offset = 0;
};

class Scopes {
 public:
  void open() { scopes_.emplace_back(); }
  size_t depth() const { return scopes_.size(); }

  // Each declares in the innermost scope and returns false if the name is taken there.
  bool declare_register(std::string_view name, uint32_t reg);
  bool declare_registers(std::string_view prefix, uint32_t first, uint32_t count);  // %r<count>
  bool declare_symbol(std::string_view name, SymbolKind kind, uint32_t index);
  bool declare_label(std::string_view name, uint32_t statement);
  bool declare_targets(std::string_view name, std::vector<LabelUse> labels);  // name: .branchtargets …;

  std::optional<uint32_t> find_register(std::string_view name) const;
  std::optional<std::pair<SymbolKind, uint32_t>> find_symbol(std::string_view name) const;

  void use_label(LabelUse use) { scopes_.back().label_uses.push_back(use); }
  void use_targets(LabelUse use) { scopes_.back().target_uses.push_back(use); }

  // Closes the innermost scope: fills in the operands of `body` that name its labels and passes the other uses to the
  // scope around it, or, from the outermost, returns the first that nobody declared.
  std::optional<LabelUse> close(std::vector<Statement>& body);

 private:
  struct Range {
    std::string_view prefix;
    uint32_t first = 0, count = 0;
  };
  struct Scope {
    std::unordered_map<std::string_view, uint32_t> registers;
    std::vector<Range> ranges;
    std::unordered_map<std::string_view, std::pair<SymbolKind, uint32_t>> symbols;
    std::unordered_map<std::string_view, uint32_t> labels;
    std::unordered_map<std::string_view, std::vector<LabelUse>> targets;
    std::vector<LabelUse> label_uses, target_uses;
  };
  std::vector<Scope> scopes_;
};

}  // namespace foretoken::ptx
