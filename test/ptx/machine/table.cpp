#include "table.h"

#include <unordered_map>

namespace foretoken::machine {

const Entry* find_entry(std::string_view mnemonic) {
  static const std::unordered_map<std::string_view, const Entry*> kTable = [] {
    std::unordered_map<std::string_view, const Entry*> table;
    for (auto entries : {arithmetic_table(), bit_table(), convert_table(), compare_table(), memory_table(),
                         warp_table(), control_table(), tensor_table(), asynchronous_table()})
      for (const Entry& entry : entries) table.emplace(entry.mnemonic, &entry);
    return table;
  }();
  const auto it = kTable.find(mnemonic);
  return it == kTable.end() ? nullptr : it->second;
}

}  // namespace foretoken::machine
