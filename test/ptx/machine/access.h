// How instructions reach memory: checked, with definedness, counted.
#pragma once
#include <cstdint>
#include <cstring>

#include "machine.h"

namespace foretoken::machine {

// Faults unless [address, address + bytes) lies in an allocation and address is a multiple of alignment. `what` is the
// instruction in words: "load", "store", "cp.async source".
void check_access(const Context& c, const Memory& memory, int lane, uint64_t address, uint32_t bytes,
                  uint32_t alignment, const char* what);

// One lane's bytes (at most 64), checked. Returns what is undefined, bit per byte.
inline uint64_t read_bytes(const Context& c, const Memory& memory, int lane, uint64_t address, uint32_t bytes, void* to,
                           const char* what) {
  uint64_t undefined_bits;
  if (memory.contains(address) && (address & (bytes - 1)) == 0 && memory.look(address, bytes, undefined_bits))
      [[likely]] {
    std::memcpy(to, memory.cell(address), bytes);
    return undefined_bits;
  }
  check_access(c, memory, lane, address, bytes, bytes, what);
  std::memcpy(to, memory.cell(address), bytes);
  return memory.undefined(address, bytes);
}

inline void write_bytes(const Context& c, Memory& memory, int lane, uint64_t address, uint32_t bytes, const void* from,
                        uint64_t undefined_bits, const char* what) {
  uint64_t undefined_before;
  const bool plain =
      memory.contains(address) && (address & (bytes - 1)) == 0 && memory.look(address, bytes, undefined_before);
  if (!plain) check_access(c, memory, lane, address, bytes, bytes, what);
  std::memcpy(memory.cell(address), from, bytes);
  if (!plain || undefined_before != undefined_bits) memory.set_undefined(address, bytes, undefined_bits);
}

// The shared memory that a lane's shared address (rank << 24 | offset) lies in.
inline Memory& shared_memory(Context& c, int lane, uint64_t shared_address) {
  return *c.shared_at(lane, shared_address).shared;
}

// Counters. Wavefronts of shared memory: 32-bit accesses count per 32 lanes, 64-bit per 16, 128-bit per 8, a row of
// ldmatrix (16 bytes) per 8 rows as well. addresses: [32] by lane.
void count_shared(Counters& counters, Mask lanes, const uint64_t* addresses, uint32_t bytes);
void count_global(Counters& counters, Mask lanes, const uint64_t* addresses, uint32_t bytes, bool store);

}  // namespace foretoken::machine
