#pragma once
#include "../table.h"

namespace foretoken::machine {

// cp.async but for its bulk forms; `cp` and `async` are taken.
void select_cp_async(Form& form);

}  // namespace foretoken::machine
