// Counters of one launch: exact, and the same in every schedule that runs the same instructions.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace foretoken::machine {

enum class Class : uint8_t {
  integer,  // add, mad, logic, shifts, prmt, bit counting
  float32,  // FP32 pipe: add, mul, fma, min, max
  float64,
  half,     // f16, bf16 and their pairs
  special,  // MUFU: ex2, lg2, rcp, rsqrt, sqrt, sin, cos, tanh
  convert,
  move,  // mov, selp, set, setp, predicate logic
  global_load,
  global_store,
  shared_load,
  shared_store,
  local_memory,
  constant_load,  // ld.const, ld.param
  atomic,         // atom, red
  shuffle,        // shfl, vote, match, redux, elect, activemask
  tensor,         // mma, wgmma
  matrix_load,    // ldmatrix, stmatrix, movmatrix
  asynchronous,   // cp.async, bulk and tensor copies, their commits and waits
  barrier,        // bar, barrier, mbarrier, fences
  control,        // bra, call, ret, exit
  other,          // nanosleep, setmaxnreg, prefetch, …
  count
};
constexpr int kClasses = static_cast<int>(Class::count);
std::string_view class_name(Class c);

struct Counters {
  std::array<uint64_t, kClasses> instructions{};       // issued, per warp
  std::array<uint64_t, kClasses> lane_instructions{};  // × active lanes
  uint64_t tensor_flop = 0;
  // Global memory: sectors of 32 bytes touched per warp instruction, and the least that could hold the bytes.
  uint64_t load_sectors = 0, load_sectors_minimum = 0, load_bytes = 0;
  uint64_t store_sectors = 0, store_sectors_minimum = 0, store_bytes = 0;
  uint64_t asynchronous_bytes = 0;  // moved by cp.async, bulk and tensor copies between global and shared
  // Shared memory: passes of 128 bytes, and those that bank conflicts added.
  uint64_t shared_wavefronts = 0, shared_wavefronts_excess = 0;
  uint64_t atomics = 0;   // lanes
  uint64_t barriers = 0;  // a warp's arrivals at bar.sync and its like
  uint64_t blocks = 0, warps = 0;
  uint64_t divergent_branches = 0;

  Counters& operator+=(const Counters& other);
};

}  // namespace foretoken::machine
