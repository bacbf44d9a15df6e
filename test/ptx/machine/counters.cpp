#include "counters.h"

#include <algorithm>
#include <bit>

#include "access.h"

namespace foretoken::machine {

std::string_view class_name(Class c) {
  static constexpr std::string_view kNames[kClasses] = {
      "integer",     "float32",      "float64",     "half",         "special",      "convert",       "move",
      "global_load", "global_store", "shared_load", "shared_store", "local_memory", "constant_load", "atomic",
      "shuffle",     "tensor",       "matrix_load", "asynchronous", "barrier",      "control",       "other"};
  return kNames[static_cast<int>(c)];
}

Counters& Counters::operator+=(const Counters& other) {
  for (int i = 0; i < kClasses; ++i) {
    instructions[i] += other.instructions[i];
    lane_instructions[i] += other.lane_instructions[i];
  }
  tensor_flop += other.tensor_flop;
  load_sectors += other.load_sectors;
  load_sectors_minimum += other.load_sectors_minimum;
  load_bytes += other.load_bytes;
  store_sectors += other.store_sectors;
  store_sectors_minimum += other.store_sectors_minimum;
  store_bytes += other.store_bytes;
  asynchronous_bytes += other.asynchronous_bytes;
  shared_wavefronts += other.shared_wavefronts;
  shared_wavefronts_excess += other.shared_wavefronts_excess;
  atomics += other.atomics;
  barriers += other.barriers;
  blocks += other.blocks;
  warps += other.warps;
  divergent_branches += other.divergent_branches;
  return *this;
}

namespace {

// The passes that a group of lanes needs: the most different chunks that fall on one place of the 128 bytes that the
// banks span. Accesses are aligned to their size, so a chunk is one lane's whole access (at least a word).
uint32_t wavefronts(Mask lanes, const uint64_t* addresses, uint32_t bytes) {
  const uint32_t places = 128 / bytes;
  const int shift = std::countr_zero(bytes);
  Mask taken = 0;
  for (int lane : each(lanes)) taken |= 1u << (addresses[lane] >> shift & (places - 1));
  if (std::popcount(taken) == std::popcount(lanes)) return 1;
  uint64_t seen[32][32];
  uint8_t count[32] = {};
  uint32_t most = 1;
  for (int lane : each(lanes)) {
    const uint64_t chunk = addresses[lane] >> shift;
    const uint32_t place = chunk & (places - 1), n = count[place];
    uint32_t k = 0;
    while (k < n && seen[place][k] != chunk) ++k;
    if (k < n) continue;
    seen[place][n] = chunk;
    count[place] = static_cast<uint8_t>(n + 1);
    most = std::max(most, n + 1);
  }
  return most;
}

// All lanes of a group in one line of 128 bytes: one pass, whatever they read there.
bool in_one_line(Mask lanes, uint32_t first, uint32_t group, const uint64_t* addresses) {
  const uint64_t reference = addresses[first_lane(lanes)];
  uint64_t difference = 0;
  for (uint32_t lane = first; lane < first + group; ++lane)
    difference |= lanes >> lane & 1 ? addresses[lane] ^ reference : 0;
  return difference < 128;
}

}  // namespace

void count_shared(Counters& counters, Mask lanes, const uint64_t* addresses, uint32_t bytes) {
  const uint32_t chunk = std::max<uint32_t>(4, bytes), group = std::min<uint32_t>(32, 128 / chunk);
  for (uint32_t first = 0; first < 32; first += group) {
    const Mask here = lanes & (group == 32 ? kAllLanes : ((1u << group) - 1) << first);
    if (!here) continue;
    const uint32_t passes = in_one_line(here, first, group, addresses) ? 1 : wavefronts(here, addresses, chunk);
    counters.shared_wavefronts += passes;
    counters.shared_wavefronts_excess += passes - 1;
  }
}

void count_global(Counters& counters, Mask lanes, const uint64_t* addresses, uint32_t bytes, bool store) {
  uint64_t sectors[64];
  uint32_t distinct = 0;
  uint64_t last = ~uint64_t{0};
  bool sorted = true;
  for (int lane : each(lanes)) {
    const uint64_t sector = addresses[lane] / 32;
    if (sector == last) continue;
    sorted = sorted && (distinct == 0 || sector > last);
    sectors[distinct++] = last = sector;
  }
  if (!sorted) {
    std::sort(sectors, sectors + distinct);
    distinct = static_cast<uint32_t>(std::unique(sectors, sectors + distinct) - sectors);
  }
  const uint64_t total = uint64_t{bytes} * static_cast<uint32_t>(__builtin_popcount(lanes));
  const uint64_t minimum = std::min<uint64_t>(distinct, (total + 31) / 32);
  (store ? counters.store_sectors : counters.load_sectors) += distinct;
  (store ? counters.store_sectors_minimum : counters.load_sectors_minimum) += minimum;
  (store ? counters.store_bytes : counters.load_bytes) += total;
}

}  // namespace foretoken::machine
