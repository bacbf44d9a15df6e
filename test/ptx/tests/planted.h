// Kernels with a bug planted, each with its twin without: what the sanitizer must find, and what it must let pass.
//
// In a kernel the line that a report must name ends in `// named: KERNEL`.
#pragma once
#include <cuda_runtime.h>

#include <span>

namespace planted {

struct Planted {
  const char* kernel;      // its name
  const char* error;       // a part of the report
  void (*run)(bool bug);   // enqueues it; errors show at the next synchronisation
  const char* also = "";   // another part, if not empty
  bool has_thread = true;  // the report names kernel, block and thread
  bool has_line = true;    // … and the line, by its marker
};

std::span<const Planted> bugs();       // for any card
std::span<const Planted> bugs_sm90();  // for 9.0 with its own instructions
const char* source();                  // file of the kernels
const char* source_sm90();

}  // namespace planted
