#pragma once
#include "../table.h"

namespace foretoken::machine {

// cp.async.bulk and cp.reduce.async.bulk, linear and tensor; `cp`, `reduce`, `async` and `bulk` are taken.
void select_bulk(Form& form, bool reduces);

}  // namespace foretoken::machine
