// bar.sync, bar.red, bar.arrive and their `barrier` spellings: counted by thread.
#pragma once
#include "machine.h"
#include "table.h"

namespace foretoken::machine {

void select_bar(Form& form);
// A barrier of the whole block does not wait for threads that have exited.
void complete_barriers_after_exit(Launch& launch, Block& block);

}  // namespace foretoken::machine
