#include "../table.h"

#include "mma.h"
#include "wgmma_plan.h"

namespace foretoken::machine {

std::span<const Entry> tensor_table() {
  static const Entry kEntries[] = {
      {"mma", select_mma},           {"ldmatrix", select_ldmatrix},
      {"stmatrix", select_stmatrix}, {"movmatrix", select_movmatrix},
      {"wgmma", select_wgmma},
  };
  return kEntries;
}

}  // namespace foretoken::machine
