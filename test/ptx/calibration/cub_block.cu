// CUB within a warp and a block: scans, reductions, radix sort and exchanges, each algorithm that it has.
#include <algorithm>
#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>
#include <numeric>

#include "check.h"

using namespace calibration;

namespace {

constexpr int kItems = 5;

template <class T, int kThreads, cub::BlockScanAlgorithm kAlgorithm>
__global__ void block_scan(const T* in, T* out, T* total) {
  using Scan = cub::BlockScan<T, kThreads, kAlgorithm>;
  __shared__ typename Scan::TempStorage storage;
  T items[kItems], sum;
  for (int i = 0; i < kItems; ++i) items[i] = in[threadIdx.x * kItems + i];
  Scan(storage).InclusiveSum(items, items, sum);
  for (int i = 0; i < kItems; ++i) out[threadIdx.x * kItems + i] = items[i];
  if (threadIdx.x == 0) *total = sum;
}

template <class T, int kThreads, cub::BlockScanAlgorithm kAlgorithm>
void run_scan(const char* name) {
  Buffer<T> in(kThreads * kItems), out(kThreads * kItems), total(1);
  in.fill(1, 9);
  block_scan<T, kThreads, kAlgorithm><<<1, kThreads>>>(in.device, out.device, total.device);
  out.to_host();
  total.to_host();
  std::vector<T> expected(in.host.size());
  std::partial_sum(in.host.begin(), in.host.end(), expected.begin());
  require_equal(name, out.host, expected);
  require(total.host[0] == expected.back(), name, "has the wrong total");
}

template <class T, int kThreads, cub::BlockReduceAlgorithm kAlgorithm>
__global__ void block_reduce(const T* in, int count, T* sum, T* largest) {
  using Reduce = cub::BlockReduce<T, kThreads, kAlgorithm>;
  __shared__ typename Reduce::TempStorage storage;
  const T value = threadIdx.x < count ? in[threadIdx.x] : T(0);
  const T s = Reduce(storage).Sum(value);
  __syncthreads();
  const T m = Reduce(storage).Reduce(value, cuda::maximum<>{}, count);
  if (threadIdx.x == 0) *sum = s, *largest = m;
}

template <class T, int kThreads, cub::BlockReduceAlgorithm kAlgorithm>
void run_reduce(const char* name) {
  for (const int count : {kThreads, kThreads - 7, 33, 1}) {
    Buffer<T> in(kThreads), sum(1), largest(1);
    in.fill(count, 50);
    block_reduce<T, kThreads, kAlgorithm><<<1, kThreads>>>(in.device, count, sum.device, largest.device);
    sum.to_host();
    largest.to_host();
    const auto end = in.host.begin() + count;
    require_equal(name, {sum.host[0], largest.host[0]},
                  std::vector<T>{std::accumulate(in.host.begin(), end, T(0)), *std::max_element(in.host.begin(), end)});
  }
}

// Loads by vectors or through shared memory, sorts, and stores striped; keys carry their place along.
template <int kThreads>
__global__ void block_sort(const float* in, float* keys, int* places) {
  using Load = cub::BlockLoad<float, kThreads, kItems, cub::BLOCK_LOAD_WARP_TRANSPOSE>;
  using Sort = cub::BlockRadixSort<float, kThreads, kItems, int>;
  using Store = cub::BlockStore<int, kThreads, kItems, cub::BLOCK_STORE_TRANSPOSE>;
  __shared__ union {
    typename Load::TempStorage load;
    typename Sort::TempStorage sort;
    typename Store::TempStorage store;
  } storage;
  float key[kItems];
  int place[kItems];
  Load(storage.load).Load(in, key);
  for (int i = 0; i < kItems; ++i) place[i] = threadIdx.x * kItems + i;
  __syncthreads();
  Sort(storage.sort).Sort(key, place);
  __syncthreads();
  Store(storage.store).Store(places, place);
  for (int i = 0; i < kItems; ++i) keys[threadIdx.x * kItems + i] = key[i];
}

template <int kThreads>
void run_sort(const char* name) {
  Buffer<float> in(kThreads * kItems), keys(kThreads * kItems);
  Buffer<int> places(kThreads * kItems);
  in.fill(3, 200);
  block_sort<kThreads><<<1, kThreads>>>(in.device, keys.device, places.device);
  keys.to_host();
  places.to_host();
  std::vector<int> order(in.host.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return in.host[a] < in.host[b]; });
  std::vector<float> expected(order.size());
  for (size_t i = 0; i < order.size(); ++i) expected[i] = in.host[order[i]];
  require_equal(name, keys.host, expected);
  require_equal(name, places.host, order);
}

template <class T, int kWidth>
__global__ void warp_collectives(const T* in, T* prefix, T* sum, T* tail_sum) {
  constexpr int kWarps = 64 / kWidth;
  __shared__ typename cub::WarpScan<T, kWidth>::TempStorage scan[kWarps];
  __shared__ typename cub::WarpReduce<T, kWidth>::TempStorage reduce[kWarps];
  const int warp = threadIdx.x / kWidth;
  const T value = in[threadIdx.x];
  T before;
  cub::WarpScan<T, kWidth>(scan[warp]).ExclusiveSum(value, before);
  prefix[threadIdx.x] = before;
  const T whole = cub::WarpReduce<T, kWidth>(reduce[warp]).Sum(value);
  __syncwarp();
  const T segment = cub::WarpReduce<T, kWidth>(reduce[warp]).HeadSegmentedSum(value, threadIdx.x % 3 == 0);
  if (threadIdx.x % kWidth == 0) sum[warp] = whole, tail_sum[warp] = segment;
}

template <class T, int kWidth>
void run_warp(const char* name) {
  constexpr int kWarps = 64 / kWidth;
  Buffer<T> in(64), prefix(64), sum(kWarps), first_segment(kWarps);
  in.fill(4, 99);
  warp_collectives<T, kWidth><<<1, 64>>>(in.device, prefix.device, sum.device, first_segment.device);
  prefix.to_host();
  sum.to_host();
  first_segment.to_host();
  std::vector<T> before(64), whole(kWarps), segment(kWarps);
  for (int i = 0; i < 64; ++i) {
    const int warp = i / kWidth, lane = i % kWidth;
    before[i] = whole[warp];
    whole[warp] += in.host[i];
    bool ended = false;
    for (int j = i - lane + 1; j <= i; ++j) ended |= j % 3 == 0;
    if (!ended) segment[warp] += in.host[i];
  }
  require_equal(name, prefix.host, before);
  require_equal(name, sum.host, whole);
  require_equal(name, first_segment.host, segment);
}

}  // namespace

int main() {
  run_scan<int, 128, cub::BLOCK_SCAN_RAKING>("block scan, raking");
  run_scan<float, 96, cub::BLOCK_SCAN_RAKING_MEMOIZE>("block scan, raking, memoized");
  run_scan<double, 256, cub::BLOCK_SCAN_WARP_SCANS>("block scan, warp scans");
  run_reduce<float, 256, cub::BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY>("block reduce, raking, commutative");
  run_reduce<int, 160, cub::BLOCK_REDUCE_RAKING>("block reduce, raking");
  run_reduce<float, 512, cub::BLOCK_REDUCE_WARP_REDUCTIONS>("block reduce, warp reductions");
  run_sort<128>("block radix sort");
  run_warp<int, 32>("warp collectives of 32");
  run_warp<float, 16>("warp collectives of 16");
  run_warp<double, 8>("warp collectives of 8");
}
