// Operations that have been issued and are not complete.
#include <algorithm>

#include "scheduler.h"

namespace foretoken::machine {

namespace {

void complete(Launch& launch, size_t index) {
  auto operation = std::move(launch.pending[index]);
  launch.pending.erase(launch.pending.begin() + static_cast<ptrdiff_t>(index));
  ++launch.progress;
  operation->complete(launch);
}

}  // namespace

// One that may complete: what it comes after is complete.
bool complete_any(Launch& launch) {
  if (launch.pending.empty()) return false;
  const size_t count = launch.pending.size();
  const size_t first = launch.random.below(static_cast<uint32_t>(count));
  for (size_t k = 0; k < count; ++k) {
    const size_t index = (first + k) % count;
    const AsynchronousOperation& operation = *launch.pending[index];
    if (operation.after && launch.is_pending(operation.after)) continue;
    complete(launch, index);
    return true;
  }
  return false;
}

uint64_t Launch::submit(std::unique_ptr<AsynchronousOperation> operation) {
  operation->number = ++last_operation;
  pending.push_back(std::move(operation));
  const uint64_t number = last_operation;
  if (options.completion == Completion::at_once) force(number);
  return number;
}

bool Launch::is_pending(uint64_t number) const {
  return std::any_of(pending.begin(), pending.end(),
                     [&](const auto& operation) { return operation->number == number; });
}

void Launch::force(uint64_t number) {
  const auto it = std::find_if(pending.begin(), pending.end(), [&](const auto& o) { return o->number == number; });
  if (it == pending.end()) return;
  if (const uint64_t after = (*it)->after) force(after);
  const auto again = std::find_if(pending.begin(), pending.end(), [&](const auto& o) { return o->number == number; });
  if (again != pending.end()) complete(*this, static_cast<size_t>(again - pending.begin()));
}

}  // namespace foretoken::machine
