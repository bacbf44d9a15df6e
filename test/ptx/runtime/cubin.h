// What ptxas says of each kernel in its machine code, which nothing here ever runs.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace foretoken::ptx::runtime {

// Kernel -> registers per thread, from the ELF of an entry. Throws std::runtime_error.
std::map<std::string, uint32_t> registers_of_kernels(std::string_view elf);

}  // namespace foretoken::ptx::runtime
