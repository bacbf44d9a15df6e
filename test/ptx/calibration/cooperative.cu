// Threads that work together: shuffles, votes, matches, cooperative groups, atomics, a barrier of the whole grid.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include <algorithm>
#include <cmath>

#include "check.h"

using namespace calibration;
namespace groups = cooperative_groups;

namespace {

// Launches `kernel` on one block; every thread has `kOutputs` places.
template <int kOutputs, class Kernel>
std::vector<int> outputs_of(const char* name, Kernel kernel, int threads) {
  Buffer<int> out(threads * kOutputs);
  kernel<<<1, threads>>>(out.device);
  finish(name);
  out.to_host();
  return out.host;
}

// Calls `expected(thread, places)` for each thread.
template <int kOutputs, class Kernel, class Expected>
void check(const char* name, Kernel kernel, int threads, Expected expected) {
  std::vector<int> all(threads * kOutputs);
  for (int thread = 0; thread < threads; ++thread) expected(thread, &all[thread * kOutputs]);
  require_equal(name, outputs_of<kOutputs>(name, kernel, threads), all);
}

__global__ void shuffles(int* out) {
  const int lane = threadIdx.x, value = lane * lane;
  out += lane * 6;
  out[0] = __shfl_sync(0xffffffff, value, lane + 5);  // modulo 32
  out[1] = __shfl_up_sync(0xffffffff, value, 3);
  out[2] = __shfl_down_sync(0xffffffff, value, 7, 16);
  out[3] = __shfl_xor_sync(0xffffffff, value, 9, 8);
  out[4] = static_cast<int>(__shfl_sync(0xffffffff, value * 0.5, 11, 4));  // double: two of 32 bits
  out[5] = 0;
  if (lane % 2) out[5] = __shfl_down_sync(0xaaaaaaaa, value, 2);
}

void check_shuffles() {
  check<6>("shuffles", shuffles, 32, [](int lane, int* expected) {
    const auto value = [](int of) { return of * of; };
    expected[0] = value((lane + 5) % 32);
    expected[1] = value(lane < 3 ? lane : lane - 3);
    expected[2] = value(lane % 16 + 7 < 16 ? lane + 7 : lane);
    // Out of its part of 8: the xor with 9 reaches into the part before it, but not into the one after it.
    const int other = lane ^ 9;
    expected[3] = value(other / 8 <= lane / 8 ? other : lane);
    expected[4] = value(lane / 4 * 4 + 3) / 2;
    expected[5] = lane % 2 ? value(lane + 2 < 32 ? lane + 2 : lane) : 0;
  });
}

__global__ void votes(int* out) {
  const int lane = threadIdx.x;
  out += lane * 9;
  out[0] = static_cast<int>(__ballot_sync(0xffffffff, lane % 3 == 1));
  out[1] = __any_sync(0xffffffff, lane == 31) * 2 + __any_sync(0xffffffff, lane == 32);
  out[2] = __all_sync(0xffffffff, lane < 32) * 2 + __all_sync(0xffffffff, lane < 31);
  out[3] = static_cast<int>(__match_any_sync(0xffffffff, lane / 5));
  int same;
  out[4] = static_cast<int>(__match_all_sync(0xffffffff, 7LL << 40, &same)) + same;
  out[5] = static_cast<int>(__reduce_add_sync(0xffffffff, lane - 20));
  out[6] = static_cast<int>(__reduce_min_sync(0xffffffff, lane - 20)) * 1000 + __reduce_max_sync(0xffffffff, lane);
  out[7] = static_cast<int>(__reduce_xor_sync(0xffffffff, 1u << lane ^ lane));
  out[8] = 0;
  if (lane >= 24)
    out[8] = static_cast<int>(__ballot_sync(__activemask(), lane & 1) ^ __reduce_or_sync(0xff000000, lane));
}

void check_votes() {
  check<9>("votes, matches, reductions of a warp", votes, 32, [](int lane, int* expected) {
    unsigned thirds = 0, fives = 0, x = 0;
    for (int other = 0; other < 32; ++other) {
      thirds |= unsigned{other % 3 == 1} << other;
      fives |= unsigned{other / 5 == lane / 5} << other;
      x ^= 1u << other ^ other;
    }
    expected[0] = static_cast<int>(thirds);
    expected[1] = 2;
    expected[2] = 2;
    expected[3] = static_cast<int>(fives);
    expected[4] = -1 + 1;
    expected[5] = 31 * 32 / 2 - 20 * 32;
    expected[6] = -20 * 1000 + 31;
    expected[7] = static_cast<int>(x);
    expected[8] = lane >= 24 ? static_cast<int>(0xaa000000 ^ 31) : 0;
  });
}

// Each value's lanes find together, as groups of a size that only the run knows.
__global__ void tiles(int* out) {
  const groups::thread_block block = groups::this_thread_block();
  const auto warp = groups::tiled_partition<32>(block);
  const auto eight = groups::tiled_partition<8>(warp);
  const int thread = block.thread_rank();
  out += thread * 8;
  out[0] = groups::reduce(warp, thread, groups::plus<int>());
  out[1] = groups::reduce(eight, thread * 7 % 13, groups::greater<int>());
  out[2] = groups::inclusive_scan(eight, thread);
  out[3] = groups::exclusive_scan(warp, thread);
  const auto of_same = groups::labeled_partition(warp, thread % 3);
  out[4] = of_same.thread_rank() * 100 + of_same.size();
  const auto halves = groups::binary_partition(warp, thread % 32 < 10);
  out[5] = groups::reduce(halves, 1, groups::plus<int>());
  out[6] = 0;
  if (thread % 5 == 2) {
    const auto active = groups::coalesced_threads();
    out[6] = active.size() * 100 + active.shfl(thread, 1);
  }
  out[7] = static_cast<int>(eight.meta_group_rank() * 10 + eight.meta_group_size());
}

void check_tiles() {
  check<8>("cooperative groups", tiles, 64, [](int thread, int* expected) {
    const int warp = thread / 32 * 32, eight = thread / 8 * 8, lane = thread % 32;
    expected[0] = warp * 32 + 31 * 32 / 2;
    expected[1] = 0;
    for (int i = eight; i < eight + 8; ++i) expected[1] = std::max(expected[1], i * 7 % 13);
    for (int i = eight; i <= thread; ++i) expected[2] += i;
    for (int i = warp; i < thread; ++i) expected[3] += i;
    for (int i = warp; i < warp + 32; ++i) {
      expected[4] += (i % 3 == thread % 3) * (i < thread ? 101 : 1);
      if (i % 5 == 2) expected[6] += 100;
    }
    expected[5] = lane < 10 ? 10 : 22;
    const int first = warp + ((2 - warp) % 5 + 5) % 5;
    expected[6] = thread % 5 == 2 ? expected[6] + first + 5 : 0;
    expected[7] = eight % 32 / 8 * 10 + 4;
  });
}

struct Totals {
  int added, least, most, exchanged, bits;
  unsigned wrapped;
  unsigned long long wide, wide_most;
  float floating, by_exchange;
  double precise;
};

__global__ void atomics(Totals* totals) {
  __shared__ int in_block;
  if (threadIdx.x == 0) in_block = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&in_block, i);
  atomicMin(&totals->least, 100 - i);
  atomicMax(&totals->most, i * 3);
  atomicOr(&totals->bits, 1 << i % 31);
  atomicInc(&totals->wrapped, 6);
  atomicAdd(&totals->wide, 1ull << 33);
  atomicMax(&totals->wide_most, static_cast<unsigned long long>(i) << 35);
  atomicAdd(&totals->floating, 0.5f);
  atomicAdd(&totals->precise, 0.25);
  // The loop for whatever has no atomic of its own.
  auto* bits = reinterpret_cast<unsigned*>(&totals->by_exchange);
  unsigned seen = *reinterpret_cast<volatile unsigned*>(bits), assumed;
  do {
    assumed = seen;
    seen = atomicCAS(bits, assumed, __float_as_uint(__uint_as_float(assumed) + static_cast<float>(i)));
  } while (seen != assumed);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&totals->added, in_block);
  if (i == 0) atomicExch(&totals->exchanged, 77);
}

void check_atomics() {
  constexpr int kThreads = 6 * 96;
  Buffer<Totals> totals(1);
  totals.host[0] = {0, 1000, -1000, 0, 0, 0, 0, 0, 0, 0, 0};
  totals.to_device();
  atomics<<<6, 96>>>(totals.device);
  finish("atomics");
  totals.to_host();
  const Totals& t = totals.host[0];
  constexpr int kSum = kThreads * (kThreads - 1) / 2;
  require_equal("atomics",
                {double(t.added), double(t.least), double(t.most), double(t.exchanged), double(t.bits),
                 double(t.wrapped), double(t.wide), double(t.wide_most), t.floating, t.by_exchange, t.precise},
                std::vector<double>{kSum, 100 - (kThreads - 1), 3 * (kThreads - 1), 77, 0x7fffffff, kThreads % 7,
                                    std::ldexp(kThreads, 33), std::ldexp(kThreads - 1, 35), kThreads * 0.5, kSum,
                                    kThreads * 0.25});
}

// Every step reads what all blocks wrote in the step before it.
__global__ void diffuse(float* from, float* to, int steps) {
  const groups::grid_group grid = groups::this_grid();
  const int count = static_cast<int>(grid.size()), i = static_cast<int>(grid.thread_rank());
  for (int step = 0; step < steps; ++step) {
    to[i] = from[(i + 1) % count] + from[(i + count - 33) % count];
    grid.sync();
    float* swapped = from;
    from = to;
    to = swapped;
  }
}

void check_grid() {
  constexpr int kBlocks = 6, kThreads = 64, kCount = kBlocks * kThreads;
  int steps = 9;
  Buffer<float> from(kCount), to(kCount);
  from.fill(3, 4);
  std::vector<float> expected = from.host, next(kCount);
  void* arguments[] = {&from.device, &to.device, &steps};
  require(cudaLaunchCooperativeKernel(diffuse, dim3(kBlocks), dim3(kThreads), arguments), "grid sync");
  finish("grid sync");
  for (int step = 0; step < steps; ++step) {
    for (int i = 0; i < kCount; ++i) next[i] = expected[(i + 1) % kCount] + expected[(i + kCount - 33) % kCount];
    expected.swap(next);
  }
  to.to_host();
  require_equal("grid sync", to.host, expected);
}

// The last block to finish adds what the others left, having seen that they are done.
__device__ unsigned finished = 0;

__global__ void last_block_adds(const float* in, float* partial, float* total) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = in[2 * blockIdx.x] + in[2 * blockIdx.x + 1];
    __threadfence();
    last = atomicInc(&finished, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  __threadfence();
  float sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += *static_cast<volatile float*>(&partial[block]);
  *total = sum;
}

void check_last_block() {
  constexpr int kBlocks = 40;
  Buffer<float> in(2 * kBlocks), partial(kBlocks), total(1);
  in.fill(12, 50);
  float sum = 0;
  for (const float value : in.host) sum += value;
  for (int launch = 0; launch < 3; ++launch) {
    last_block_adds<<<kBlocks, 32>>>(in.device, partial.device, total.device);
    total.to_host();
    require_equal("the last block adds", total.host, {sum});
  }
}

}  // namespace

int main() {
  check_shuffles();
  check_votes();
  check_tiles();
  check_atomics();
  check_grid();
  check_last_block();
}
