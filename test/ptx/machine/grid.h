// A launch as the host gives it.
#pragma once
#include <cstddef>
#include <span>

#include "code.h"
#include "machine.h"

namespace foretoken::machine {

struct Call {
  const Code* code = nullptr;
  LaunchShape shape;
  Options options;
  Memory* global = nullptr;
  Observer* observer = nullptr;
  std::span<const std::byte> parameters;
};

struct Result {
  Counters counters;
  std::vector<uint64_t> executed, lanes_executed;  // by instruction of the code
  std::vector<std::string> printed;
};

// Runs the grid to its end. Throws Fault.
Result execute(const Call& call);

}  // namespace foretoken::machine
