#include "failure.h"

#include <utility>

namespace foretoken::cuda {

static thread_local const char* pending = nullptr;

void report_failure(const char* text) {
  if (!pending) pending = text;
}

const char* take_failure() { return std::exchange(pending, nullptr); }

}  // namespace foretoken::cuda
