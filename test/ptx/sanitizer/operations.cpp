#include "operations.h"

#include <algorithm>

namespace foretoken::sanitizer {

Operation& Operations::add(uint64_t number) {
  if (operations_.empty()) first_ = number;
  while (operations_.size() <= number - first_) operations_.emplace_back();
  return operations_[number - first_];
}

void Operations::forget_before(uint64_t number) {
  while (!operations_.empty() && first_ < number) {
    operations_.pop_front();
    ++first_;
  }
}

OperationKind operation_kind(const machine::Code& code, uint32_t pc) {
  const auto& statement = code.statement(pc);
  const auto has = [&](std::string_view modifier) {
    return std::find(statement.modifiers.begin(), statement.modifiers.end(), modifier) != statement.modifiers.end();
  };
  if (statement.mnemonic == "wgmma") return OperationKind::product;
  if (has("bulk")) return has("mbarrier::complete_tx::bytes") ? OperationKind::load : OperationKind::store;
  return has("mbarrier") ? OperationKind::arrival : OperationKind::copy;
}

}  // namespace foretoken::sanitizer
