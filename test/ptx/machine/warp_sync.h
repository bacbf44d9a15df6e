// shfl, vote, match, redux, elect, bar.warp.sync, activemask.
#pragma once
#include "table.h"

namespace foretoken::machine {

void select_warp_barrier(Form& form);

}  // namespace foretoken::machine
