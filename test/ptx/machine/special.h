// mov from %tid, %ctaid, %laneid, %envreg1, …
#pragma once
#include "table.h"

namespace foretoken::machine {

struct Launch;

void select_special(Form& form, ptx::Type type);

// What the driver gives a cooperative grid: {uint32 bytes, uint32 barrier of grid.sync()}. cooperative_groups finds its
// address in %envreg1 (upper half) and %envreg2. It lies in the first page of global memory, which the host never gets.
constexpr uint64_t kGridWorkspaceBytes = 8;
uint64_t grid_workspace(const Launch& launch);  // 0: this grid has none

}  // namespace foretoken::machine
