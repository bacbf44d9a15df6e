// CUB over a device: scans with decoupled look-back (blocks wait for those before them), reductions, selections.
#include <algorithm>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_run_length_encode.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_segmented_reduce.cuh>
#include <cub/device/device_select.cuh>
#include <numeric>

#include "check.h"

using namespace calibration;

namespace {

// CUB's two calls: the first says how much workspace it needs.
template <class Call>
void with_workspace(const char* name, Call call) {
  size_t bytes = 0;
  require(call(nullptr, bytes), name);
  Buffer<uint8_t> workspace(bytes + 1);
  require(call(workspace.device, bytes), name);
  finish(name);
}

template <class T>
void run_scan(const char* name, int count) {
  Buffer<T> in(count), out(count);
  in.fill(1, 5);
  std::vector<T> expected(count);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(workspace, bytes, in.device, out.device, count);
  });
  out.to_host();
  std::exclusive_scan(in.host.begin(), in.host.end(), expected.begin(), T(0));
  require_equal(name, out.host, expected);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceScan::InclusiveScan(workspace, bytes, in.device, out.device, cuda::maximum<>{}, count);
  });
  out.to_host();
  std::inclusive_scan(in.host.begin(), in.host.end(), expected.begin(), [](T a, T b) { return std::max(a, b); });
  require_equal(name, out.host, expected);
}

template <class T>
void run_reduce(const char* name, int count) {
  Buffer<T> in(count), sum(1), least(1), largest(1);
  Buffer<int64_t> place(1);
  in.fill(2, 1000);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceReduce::Sum(workspace, bytes, in.device, sum.device, count);
  });
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceReduce::Min(workspace, bytes, in.device, least.device, count);
  });
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceReduce::ArgMax(workspace, bytes, in.device, largest.device, place.device, count);
  });
  for (auto* result : {&sum, &least, &largest}) result->to_host();
  place.to_host();
  const auto top = std::max_element(in.host.begin(), in.host.end());
  require_equal(name, {sum.host[0], least.host[0], largest.host[0]},
                std::vector<T>{std::accumulate(in.host.begin(), in.host.end(), T(0)),
                               *std::min_element(in.host.begin(), in.host.end()), *top});
  require(place.host[0] == top - in.host.begin(), name, "found its largest item elsewhere");
}

void run_segments(const char* name) {
  constexpr int kSegments = 40, kLargest = 300;
  Buffer<int> offsets(kSegments + 1);
  for (int i = 0; i < kSegments; ++i) offsets.host[i + 1] = offsets.host[i] + i * 37 % kLargest;
  offsets.to_device();
  Buffer<float> in(offsets.host.back()), sums(kSegments);
  in.fill(6, 20);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceSegmentedReduce::Sum(workspace, bytes, in.device, sums.device, kSegments, offsets.device,
                                           offsets.device + 1);
  });
  sums.to_host();
  std::vector<float> expected(kSegments);
  for (int i = 0; i < kSegments; ++i)
    expected[i] = std::accumulate(in.host.begin() + offsets.host[i], in.host.begin() + offsets.host[i + 1], 0.0f);
  require_equal(name, sums.host, expected);
}

struct IsOdd {
  __host__ __device__ bool operator()(int value) const { return value & 1; }
};

void run_select(const char* name, int count) {
  Buffer<int> in(count), out(count), kept(1);
  in.fill(8, 100);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceSelect::If(workspace, bytes, in.device, out.device, kept.device, count, IsOdd{});
  });
  kept.to_host();
  std::vector<int> expected;
  std::copy_if(in.host.begin(), in.host.end(), std::back_inserter(expected), IsOdd{});
  require(kept.host[0] == static_cast<int>(expected.size()), name, "kept another number of items");
  out.host.resize(expected.size());
  out.to_host();
  require_equal(name, out.host, expected);
}

void run_run_lengths(const char* name, int count) {
  Buffer<int> in(count), values(count), lengths(count), runs(1);
  in.fill(9, 1);
  with_workspace(name, [&](void* workspace, size_t& bytes) {
    return cub::DeviceRunLengthEncode::Encode(workspace, bytes, in.device, values.device, lengths.device, runs.device,
                                              count);
  });
  runs.to_host();
  std::vector<int> value, length;
  for (const int item : in.host) {
    if (value.empty() || value.back() != item) value.push_back(item), length.push_back(0);
    ++length.back();
  }
  require(runs.host[0] == static_cast<int>(value.size()), name, "found another number of runs");
  values.host.resize(value.size());
  lengths.host.resize(value.size());
  values.to_host();
  lengths.to_host();
  require_equal(name, values.host, value);
  require_equal(name, lengths.host, length);
}

}  // namespace

int main() {
  run_scan<int>("device scan of int", 100003);
  run_scan<double>("device scan of double", 20001);
  run_scan<int>("device scan of one item", 1);
  run_reduce<float>("device reduce of float", 50001);
  run_reduce<int>("device reduce of int", 301);
  run_segments("segmented reduce");
  run_select("device select", 30011);
  run_run_lengths("device run-length encode", 20011);
}
