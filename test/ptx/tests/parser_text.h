// Small PTX modules for the tests of the parser and what follows it.
#pragma once
#include <memory>
#include <string>

#include "ptx/parser.h"

namespace foretoken::ptx {

inline std::unique_ptr<Module> parse_items(const std::string& items) {
  return parse_module(".version 9.0\n.target sm_90a\n.address_size 64\n" + items, "test");
}

// Registers that every body below may use.
inline const std::string kRegisters =
    ".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<99>; .reg .f32 %f<99>; .reg .b64 %d<9>; .reg .b128 %q<3>;\n";

struct Kernel {
  std::unique_ptr<Module> module;
  Function* function = nullptr;
  const Statement& at(size_t i) const { return function->body.at(i); }
};

// `kernel k(.param .u64 a, .param .u32 n)` with this body, behind `items`.
inline Kernel parse_kernel(const std::string& body, const std::string& items = "") {
  Kernel kernel;
  kernel.module =
      parse_items(items + ".visible .entry k(.param .u64 a, .param .u32 n)\n{\n" + kRegisters + body + "\n}\n");
  kernel.function = kernel.module->find_function("k");
  parse_body(*kernel.module, *kernel.function);
  return kernel;
}

// The message of the ParseError that `work` throws, or "no error".
template <class Work>
std::string error_of(Work work) {
  try {
    work();
  } catch (const ParseError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace foretoken::ptx
