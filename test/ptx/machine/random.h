// The machine's only source of chance: the seed.
#pragma once
#include <cstdint>

namespace foretoken::machine {

// splitmix64: a good hash of 64 bits.
inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed = 1) : state_(seed) {}
  uint64_t next() { return mix(state_++); }
  // 0 … n-1
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 32) * n >> 32); }
  bool chance(uint32_t one_in) { return below(one_in) == 0; }

 private:
  uint64_t state_;
};

}  // namespace foretoken::machine
