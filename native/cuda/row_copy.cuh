// Copies of rows byte for byte, by one warp, whatever the alignment.
#pragma once
#include "device.cuh"

namespace foretoken::cuda {

// to = from, `bytes` of each; zeros when from is nullptr.
template <class Unit>
__device__ __forceinline__ void warp_copy_units(char* to, const char* from, int64_t bytes) {
  Unit* out = reinterpret_cast<Unit*>(to);
  const Unit* in = reinterpret_cast<const Unit*>(from);
  for (int64_t i = threadIdx.x % kWarp; i < bytes / static_cast<int64_t>(sizeof(Unit)); i += kWarp)
    out[i] = in ? in[i] : Unit();
}

// The same in the widest units that both addresses and the length allow.
__device__ __forceinline__ void warp_copy(char* to, const char* from, int64_t bytes) {
  const uintptr_t all = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes;
  if (all % sizeof(uint4) == 0)
    warp_copy_units<uint4>(to, from, bytes);
  else if (all % sizeof(uint32_t) == 0)
    warp_copy_units<uint32_t>(to, from, bytes);
  else if (all % sizeof(uint16_t) == 0)
    warp_copy_units<uint16_t>(to, from, bytes);
  else
    warp_copy_units<uint8_t>(to, from, bytes);
}

}  // namespace foretoken::cuda
