// CUB's radix sort: one tile below some thousands of keys; onesweep (digit by digit with look-back) above.
#include <algorithm>
#include <cub/device/device_radix_sort.cuh>
#include <numeric>

#include "check.h"

using namespace calibration;

namespace {

template <class Key>
void fill_random(Buffer<Key>& keys) {
  uint64_t state = 1;
  for (Key& key : keys.host) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    key = std::is_floating_point_v<Key> ? static_cast<Key>(static_cast<int64_t>(state)) * Key(0x1p-50)
                                        : static_cast<Key>(state >> 7);
  }
  keys.to_device();
}

// Sorts the keys by the bits [first, last), each with the place where it was.
template <class Key>
void run(const char* name, int count, bool descending, int first = 0, int last = sizeof(Key) * 8) {
  Buffer<Key> keys(count), sorted(count);
  Buffer<int> places(count), order(count);
  fill_random(keys);
  std::iota(places.host.begin(), places.host.end(), 0);
  places.to_device();
  size_t bytes = 0;
  const auto sort = [&](void* workspace) {
    return descending ? cub::DeviceRadixSort::SortPairsDescending(workspace, bytes, keys.device, sorted.device,
                                                                  places.device, order.device, count, first, last)
                      : cub::DeviceRadixSort::SortPairs(workspace, bytes, keys.device, sorted.device, places.device,
                                                        order.device, count, first, last);
  };
  require(sort(nullptr), name);
  Buffer<uint8_t> workspace(bytes + 1);
  require(sort(workspace.device), name);
  finish(name);
  sorted.to_host();
  order.to_host();

  const auto digits = [&](Key key) {
    if constexpr (std::is_floating_point_v<Key>)
      return key;
    else
      return static_cast<Key>(key >> first & ((last - first < 64 ? uint64_t{1} << (last - first) : 0) - 1));
  };
  std::vector<int> expected_order(places.host);
  std::stable_sort(expected_order.begin(), expected_order.end(), [&](int a, int b) {
    return descending ? digits(keys.host[b]) < digits(keys.host[a]) : digits(keys.host[a]) < digits(keys.host[b]);
  });
  std::vector<Key> expected(count);
  for (int i = 0; i < count; ++i) expected[i] = keys.host[expected_order[i]];
  require_equal(name, sorted.host, expected);
  require_equal(name, order.host, expected_order);
}

}  // namespace

int main() {
  run<uint32_t>("radix sort of uint32, one tile", 1000, false);
  run<uint32_t>("radix sort of uint32", 60000, false);
  run<uint32_t>("radix sort of uint32 by 11 of its bits, descending", 50001, true, 3, 14);
  run<float>("radix sort of float, descending", 50000, true);
}
