#pragma once
#include "../table.h"

namespace foretoken::machine {

void select_mbarrier(Form& form);

}  // namespace foretoken::machine
