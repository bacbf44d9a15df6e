// Which registers an instruction reads and writes.
#pragma once
#include <cstdint>
#include <vector>

#include "module.h"

namespace foretoken::ptx {

struct Access {
  uint32_t reg = 0;
  bool read = false, written = false;
};

// Each register once; the guard is a read. A write may leave lanes as they were, so it ends the old value's life only
// where Statement::guard is empty. Throws ParseError if the instruction is not known.
std::vector<Access> register_accesses(const Module& module, const Function& function, const Statement& statement);

}  // namespace foretoken::ptx
