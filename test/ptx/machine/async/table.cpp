#include "../table.h"

#include "bulk_instructions.h"
#include "cluster.h"
#include "cp_async.h"
#include "fence.h"
#include "mbarrier_instructions.h"

namespace foretoken::machine {
namespace {

void select_cp(Form& form) {
  const bool reduces = form.take("reduce");
  form.need("async");
  if (form.take("bulk")) return select_bulk(form, reduces);
  if (reduces) form.unknown();
  select_cp_async(form);
}

}  // namespace

std::span<const Entry> asynchronous_table() {
  static const Entry kEntries[] = {
      {"cp", select_cp},
      {"mbarrier", select_mbarrier},
      {"mapa", select_mapa},
      {"fence", select_fence},
      {"griddepcontrol", select_griddepcontrol},
      {"getctarank", select_getctarank},
      {"setmaxnreg", select_setmaxnreg},
  };
  return kEntries;
}

}  // namespace foretoken::machine
