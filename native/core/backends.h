// What core knows of backends: how to find one. Each backend's own folder defines these functions.
#pragma once
#include <string>
#include <vector>

#include "../kernels.h"
#include "failure.h"

namespace foretoken {

struct ProcessorInfo {
  std::string vendor, model;
  std::vector<std::string> levels;      // that this processor can run, slowest first
  std::vector<std::string> unrecorded;  // those among them that no full test pass is recorded for
  std::string default_level, reason;
};

ProcessorInfo processor_info();

// The CPU backend at this SIMD level; empty: FORETOKEN_SIMD's, or else the default one. nullptr sets the failure.
const Backend* find_cpu_backend(const std::string& level, Failure& failure);

}  // namespace foretoken
