#pragma once
#include "../table.h"

namespace foretoken::machine {

void select_mapa(Form& form);
void select_getctarank(Form& form);

}  // namespace foretoken::machine
