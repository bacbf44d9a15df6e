#pragma once
#include "../table.h"

namespace foretoken::machine {

void select_fence(Form& form);
void select_griddepcontrol(Form& form);
void select_setmaxnreg(Form& form);

}  // namespace foretoken::machine
