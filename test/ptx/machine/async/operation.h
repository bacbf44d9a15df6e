// Asynchronous operations as their instructions make them: they remember where they come from.
#pragma once
#include <string>

#include "../code.h"
#include "../machine.h"

namespace foretoken::machine {

// The context outlives the instruction but for its split: for faults and events only.
struct Operation : AsynchronousOperation {
  explicit Operation(const Context& c) : context(c) {
    context.split = nullptr;
    block = c.block;
  }
  std::string describe() const override {
    const Code& code = *context.launch->code;
    return "`" + code.text(context.pc) + "` of " + code.place(context.pc);
  }

  Context context;
  uint64_t mbarrier = 0;  // that its bytes come to; 0: none

 protected:
  void report_complete() { context.observe(SyncEvent{.kind = SyncKind::agent_complete, .object = number}); }
};

// Queues it and says to the observer that it begins; `mbarrier`: where its bytes will come to. Returns its number.
template <class T>
uint64_t submit(Context& c, std::unique_ptr<T> operation, uint64_t mbarrier = 0) {
  c.observe(SyncEvent{
      .kind = SyncKind::agent_start, .lanes = c.lanes, .object = c.launch->last_operation + 1, .barrier = mbarrier});
  return c.launch->submit(std::move(operation));
}

// Completes it, if it is not yet, for lanes that waited for it.
inline void join(Context& c, Mask lanes, uint64_t operation) {
  c.launch->force(operation);
  c.observe(SyncEvent{.kind = SyncKind::agent_join, .lanes = lanes, .object = operation});
}

}  // namespace foretoken::machine
