// The CPU backend: which SIMD level this machine gets, and its kernel table.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "../kernels.h"

namespace foretoken::cpu {

struct Processor {
  std::string vendor, model;
  bool avx2 = false, avx512 = false, avx512bf16 = false, amx = false;
};

// The one that this runs on; a flag is set only if this build has kernels for it.
const Processor& processor();

// A level for a vendor. A level is recorded once the whole test suite has passed with its kernels on some processor;
// until then it is taken only when asked for.
struct Preference {
  const char* vendor;  // nullptr: any
  const char* level;
  bool recorded;
  const char* reason;  // in one sentence a person can read
};
// Best first. Where none applies, the level is "generic".
std::span<const Preference> preferences();

// Levels that a processor can run, slowest first; "generic" is always there.
std::vector<std::string> usable_levels(const Processor& on = processor());

bool recorded(const std::string& level, const Processor& on = processor(),
              std::span<const Preference> from = preferences());

// Chosen by vendor and flags, never by a timing: the first that applies, is recorded and usable.
const Preference& choose_level(const Processor& on = processor(), std::span<const Preference> from = preferences());

// nullptr when the level is unknown or this processor cannot run it.
const Backend* backend(const std::string& level);

}  // namespace foretoken::cpu
