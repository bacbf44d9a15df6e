#include "scope.h"

#include <charconv>

namespace foretoken::ptx {
namespace {

// `%r12` is number 12 of the range `%r`. nullopt if what follows the prefix is no number as PTX writes it.
std::optional<uint32_t> number_behind(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix) || name.size() == prefix.size()) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  if (digits[0] == '0' && digits.size() > 1) return std::nullopt;
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

}  // namespace

bool Scopes::declare_register(std::string_view name, uint32_t reg) {
  return scopes_.back().registers.emplace(name, reg).second;
}

bool Scopes::declare_registers(std::string_view prefix, uint32_t first, uint32_t count) {
  for (const Range& range : scopes_.back().ranges)
    if (range.prefix == prefix) return false;
  scopes_.back().ranges.push_back({prefix, first, count});
  return true;
}

bool Scopes::declare_symbol(std::string_view name, SymbolKind kind, uint32_t index) {
  return scopes_.back().symbols.emplace(name, std::pair(kind, index)).second;
}

bool Scopes::declare_label(std::string_view name, uint32_t statement) {
  return scopes_.back().labels.emplace(name, statement).second;
}

bool Scopes::declare_targets(std::string_view name, std::vector<LabelUse> labels) {
  return scopes_.back().targets.emplace(name, std::move(labels)).second;
}

std::optional<uint32_t> Scopes::find_register(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (!scope->registers.empty())
      if (const auto found = scope->registers.find(name); found != scope->registers.end()) return found->second;
    for (const Range& range : scope->ranges)
      if (const auto number = number_behind(range.prefix, name); number && *number < range.count)
        return range.first + *number;
  }
  return std::nullopt;
}

std::optional<std::pair<SymbolKind, uint32_t>> Scopes::find_symbol(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (const auto found = scope->symbols.find(name); found != scope->symbols.end()) return found->second;
  return std::nullopt;
}

std::optional<LabelUse> Scopes::close(std::vector<Statement>& body) {
  Scope scope = std::move(scopes_.back());
  scopes_.pop_back();
  // A table's labels are looked up from where the table stands.
  for (const LabelUse& use : scope.target_uses) {
    const auto table = scope.targets.find(use.name);
    if (table == scope.targets.end()) {
      if (scopes_.empty()) return use;
      scopes_.back().target_uses.push_back(use);
      continue;
    }
    Operand& vector = body[use.statement].operands[use.operand];
    for (LabelUse label : table->second) {
      label.statement = use.statement;
      label.operand = use.operand;
      label.element = static_cast<uint32_t>(vector.elements.size());
      vector.elements.emplace_back().kind = OperandKind::label;
      scope.label_uses.push_back(label);
    }
  }
  for (const LabelUse& use : scope.label_uses) {
    const auto label = scope.labels.find(use.name);
    if (label == scope.labels.end()) {
      if (scopes_.empty()) return use;
      scopes_.back().label_uses.push_back(use);
      continue;
    }
    Operand& operand = body[use.statement].operands[use.operand];
    (use.element == UINT32_MAX ? operand : operand.elements[use.element]).target = label->second;
  }
  return std::nullopt;
}

}  // namespace foretoken::ptx
