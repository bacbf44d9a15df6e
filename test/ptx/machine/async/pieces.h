// Copies and comparisons of a few bytes, nearly always of 16: a case worth its own.
#pragma once
#include <cstdint>
#include <cstring>

namespace foretoken::machine {

inline void copy_piece(void* to, const void* from, uint32_t bytes) {
  bytes == 16 ? std::memcpy(to, from, 16) : std::memcpy(to, from, bytes);
}
inline bool same_piece(const void* x, const void* y, uint32_t bytes) {
  if (bytes != 16) return std::memcmp(x, y, bytes) == 0;
  uint64_t a[2], b[2];
  std::memcpy(a, x, 16);
  std::memcpy(b, y, 16);
  return a[0] == b[0] && a[1] == b[1];
}

}  // namespace foretoken::machine
