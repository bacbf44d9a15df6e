// The CPU backend: which SIMD level this machine gets, and its kernel table.
#pragma once
#include <string>
#include <vector>

#include "../kernels.h"

namespace foretoken::cpu {

struct Processor {
  std::string vendor, model;
  bool avx2 = false, avx512 = false, avx512bf16 = false, amx = false;
};

const Processor& processor();

// Levels that this processor can run, slowest first; "generic" is always there.
std::vector<std::string> usable_levels();

// Whether a full test pass at this level is recorded for this processor's vendor; without it the level is opt-in.
bool recorded(const std::string& level);

// The level chosen by vendor and flags, never by a timing.
std::string default_level();
// Why, in one sentence a person can read.
std::string level_reason();

// nullptr when the level is unknown or this processor cannot run it.
const Backend* backend(const std::string& level);

}  // namespace foretoken::cpu
