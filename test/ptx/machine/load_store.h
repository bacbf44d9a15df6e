#pragma once
#include "table.h"

namespace foretoken::machine {

void select_load(Form& form);
void select_store(Form& form);
// atom and red (atomic.cpp).
void select_atomic(Form& form);

}  // namespace foretoken::machine
