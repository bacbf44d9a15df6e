// ld, st, atom, red, and hints about caches.
#include "lanewise.h"
#include "load_store.h"
#include "memory_operand.h"

namespace foretoken::machine {

namespace {

Outcome nothing(Context&, const Instruction&) { return Outcome::next; }

// prefetch, discard and their like say nothing about values.
void select_hint(Form& form) {
  form.instruction.results = 0;
  form.take("tensormap");
  form.take("level::eviction_priority");
  form.take("L1"), form.take("L2");
  take_memory_form(form);
  form.use(nothing);
}

Outcome policy(Context& c, const Instruction& i) {
  const uint64_t values[kLanes] = {};
  c.write(i[0], values);
  return Outcome::next;
}

// A cache policy is opaque: any number will do.
void select_createpolicy(Form& form) {
  form.ignore({"fractional", "range", "cvt", "L2", "b64", "global"});
  std::string_view hint;
  while (form.take_prefix("L2::", hint)) {
  }
  form.constants(ptx::Type::b64);
  expect_row(form, 0, 64);
  form.use(policy);
}

constexpr Entry kEntries[] = {
    {"ld", select_load},
    {"ldu", select_load},
    {"st", select_store},
    {"atom", select_atomic},
    {"red", select_atomic},
    {"prefetch", select_hint},
    {"prefetchu", select_hint},
    {"discard", select_hint},
    {"applypriority", select_hint},
    {"createpolicy", select_createpolicy},
};

}  // namespace

std::span<const Entry> memory_table() { return kEntries; }

}  // namespace foretoken::machine
