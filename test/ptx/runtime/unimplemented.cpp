// Every function of the real library that is not implemented here: it says so and fails. The definitions are weak, so
// those elsewhere take their place; nothing but the name of a function is known to this file.
#include <cstdio>
#include <cstdlib>

#include "runtime.h"

namespace {

int unimplemented(const char* name) {
  using namespace foretoken::ptx::runtime;
  std::fprintf(stderr, "[ptx] %s is not implemented in the stand-in for libcudart\n", name);
  if (Runtime::instance().settings.strict) std::abort();
  return call(Needs::nothing, [&](Runtime&, Lock&) {
    throw Error(cudaErrorNotSupported, std::string(name) + " is not implemented in the stand-in for libcudart");
  });
}

}  // namespace

// Under names of our own in C++, as the header declares the real ones with their parameters.
#pragma GCC visibility push(default)
#define X(name)                                                           \
  extern "C" __attribute__((weak)) int unimplemented_##name() asm(#name); \
  extern "C" int unimplemented_##name() { return unimplemented(#name); }
#include "symbols.inc"
#undef X
#pragma GCC visibility pop
