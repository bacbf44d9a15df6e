// .func calls, and the functions of the system that kernels call: vprintf, __assertfail.
#pragma once
#include "table.h"

namespace foretoken::machine {

void select_call(Form& form);
void select_return(Form& form);

}  // namespace foretoken::machine
