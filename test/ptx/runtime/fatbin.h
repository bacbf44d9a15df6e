// The fat binary that nvcc puts in an object: PTX and machine code for several architectures, compressed.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken::ptx::runtime {

struct FatEntry {
  enum class Kind { ptx, machine_code };
  Kind kind = Kind::ptx;
  int architecture = 0;  // 80, 90
  bool exact = false;    // sm_90a: runs on nothing but exactly this architecture
  std::string name;      // of the source file
  std::span<const std::byte> stored;
  uint64_t plain_bytes = 0;  // 0: stored as it is
  bool zstd = false;
  std::string target() const { return "sm_" + std::to_string(architecture) + (exact ? "a" : ""); }
};

// `wrapper` is what __cudaRegisterFatBinary is given. Throws std::runtime_error on an unknown layout.
std::vector<FatEntry> read_fat_binary(const void* wrapper);

// The PTX or ELF of an entry. Throws std::runtime_error.
std::string contents(const FatEntry& entry);

// What the driver would take on a device of this architecture: among the entries of one kind, the highest that runs
// there. PTX runs on its own architecture and all later ones, machine code on later minors of its own major, and what
// was made for an 'a' architecture on exactly that one. nullptr: none.
const FatEntry* choose(const std::vector<FatEntry>& entries, FatEntry::Kind kind, int architecture);

// "compute_80, sm_90a": for messages.
std::string describe(const std::vector<FatEntry>& entries);

}  // namespace foretoken::ptx::runtime
