// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): a pure function from
// (key, counter) to four random words, so that any element of any random tensor can be computed on its own.
#pragma once
#include <cstdint>

namespace foretoken {

struct Philox {
  uint32_t v[4];
};

static inline Philox philox4x32(Philox counter, uint32_t key0, uint32_t key1) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < kRounds; round++) {
    const uint64_t product0 = kMultiplier0 * counter.v[0];
    const uint64_t product1 = kMultiplier1 * counter.v[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.v[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.v[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

// Four words for element `index` of the random stream `stream` under `seed`:
// key = seed, counter = {index low, index high, stream low, stream high}.
static inline Philox philox(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox4x32({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(stream),
                      static_cast<uint32_t>(stream >> 32)}},
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// A word as a uniform number in (0, 1]: never 0, so that its logarithm is finite; exact, in steps of 2⁻²⁴.
static inline float philox_uniform(uint32_t word) { return static_cast<float>((word >> 8) + 1) * (1.0f / 16777216.0f); }

}  // namespace foretoken
