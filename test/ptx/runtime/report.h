// PTX_REPORT: what each launch did, for benches in another process or language.
#pragma once
#include <string>

#include "machine/counters.h"
#include "work.h"

namespace foretoken::ptx::runtime {

// Appends one object of JSON to the file: the kernel, its shape, its resources, and every counter by name.
void report_launch(const std::string& file, const KernelWork& work, const Card& card,
                   const machine::Counters& counters);

}  // namespace foretoken::ptx::runtime
