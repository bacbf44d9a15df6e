// mma.sync and the moves of matrices between registers and shared memory.
#pragma once
#include "../table.h"

namespace foretoken::machine {

void select_mma(Form& form);
void select_ldmatrix(Form& form);
void select_stmatrix(Form& form);
void select_movmatrix(Form& form);

}  // namespace foretoken::machine
