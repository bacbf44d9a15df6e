// Bugs that need sm_90a: bulk copies, mbarriers with bytes, proxies, wgmma, clusters.
#include <cooperative_groups.h>
#include <cuda.h>

#include <cstdint>
#include <vector>

#include "planted.h"

namespace planted {

namespace {

constexpr int kWords = 64;
constexpr uint32_t kBytes = kWords * sizeof(int);

template <class T>
T* allocate(size_t count) {
  T* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T));
  cudaMemset(data, 0, count * sizeof(T));
  return data;
}
void fetch(const int* data, size_t count) {
  std::vector<int> values(count);
  cudaMemcpy(values.data(), data, count * sizeof(int), cudaMemcpyDeviceToHost);
}

__device__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ void mbarrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
__device__ void mbarrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
__device__ void mbarrier_wait(uint64_t* barrier, int parity) {
  int done = 0;
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
}
__device__ void bulk_load(int* to, const int* from, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
__device__ void bulk_store(int* to, const int* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(shared_address(from)),
               "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
__device__ void tensor_load(int* to, const CUtensorMap& map, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];" ::"r"(
          shared_address(to)),
      "l"(&map), "r"(0), "r"(shared_address(barrier))
      : "memory");
}
__device__ void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- bulk copies

template <bool kBug>
__global__ void missing_mbarrier_wait(const int* in, int* out) {
  alignas(128) __shared__ int shared[kWords];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_expect(&barrier, kBytes);
    bulk_load(shared, in, kBytes, &barrier);
  }
  __syncthreads();
  if (!kBug || threadIdx.x == 0) mbarrier_wait(&barrier, 0);
  out[threadIdx.x] = shared[threadIdx.x];  // named: missing_mbarrier_wait
  mbarrier_wait(&barrier, 0);
}

// Two loads on two mbarriers; only the second is waited for.
template <bool kBug>
__global__ void wrong_mbarrier(const int* in, int* out) {
  alignas(128) __shared__ int shared[2][kWords];
  __shared__ uint64_t barriers[2];
  if (threadIdx.x == 0)
    for (int stage = 0; stage < 2; stage++) {
      mbarrier_init(&barriers[stage], 1);
      mbarrier_expect(&barriers[stage], kBytes);
      bulk_load(shared[stage], in, kBytes, &barriers[stage]);
    }
  __syncthreads();
  mbarrier_wait(&barriers[1], 0);
  if (!kBug) mbarrier_wait(&barriers[0], 0);
  out[threadIdx.x] = shared[0][threadIdx.x];  // named: wrong_mbarrier
  mbarrier_wait(&barriers[0], 0);
}

// The next load overwrites what warp 1 may not have read.
template <bool kBug>
__global__ void load_over_reader(const int* in, int* out) {
  alignas(128) __shared__ int shared[kWords];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) mbarrier_init(&barrier, 1);
  __syncthreads();
  int sum = 0;
  for (int round = 0; round < 3; round++) {
    if (threadIdx.x == 0) {
      mbarrier_expect(&barrier, kBytes);
      bulk_load(shared, in, kBytes, &barrier);  // named: load_over_reader
    }
    mbarrier_wait(&barrier, round & 1);
    sum += shared[threadIdx.x];
    if (!kBug) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

template <bool kBug>
__global__ void never_enough_bytes(const int* in, int* out) {
  alignas(128) __shared__ int shared[kWords];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_expect(&barrier, kBytes + (kBug ? 16 : 0));
    bulk_load(shared, in, kBytes, &barrier);
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);  // named: never_enough_bytes
  out[threadIdx.x] = shared[threadIdx.x];
}

template <bool kBug>
__global__ void missing_proxy_fence(int* out) {
  alignas(128) __shared__ int shared[kWords];
  shared[threadIdx.x] = threadIdx.x;
  if (!kBug) proxy_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    bulk_store(out, shared, kBytes);  // named: missing_proxy_fence
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
}

template <bool kBug>
__global__ void store_not_read_yet(int* out) {
  alignas(128) __shared__ int shared[kWords];
  for (int round = 0; round < 2; round++) {
    shared[threadIdx.x] = round;  // named: store_not_read_yet
    proxy_fence();
    __syncthreads();
    if (threadIdx.x == 0) {
      bulk_store(out + round * kWords, shared, kBytes);
      if (!kBug || round == 1) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
    __syncthreads();
  }
}

__global__ void stale_map(const CUtensorMap __grid_constant__ map, int* out) {
  alignas(128) __shared__ int shared[kWords];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_expect(&barrier, kBytes);
    tensor_load(shared, map, &barrier);  // named: stale_map
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);
  out[threadIdx.x] = shared[threadIdx.x];
}

// --- wgmma: 64 × 8 × 16 of bf16, no swizzle, all of it zeros

struct Fragment {
  float values[4] = {1, 1, 1, 1};
};
__device__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
__device__ void wgmma(Fragment& d, const uint4* a, const uint4* b) {
  const auto descriptor = [](const uint4* tile, uint64_t leading) {
    return shared_address(tile) >> 4 | leading >> 4 << 16 | uint64_t{128 >> 4} << 32;
  };
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
               : "+f"(d.values[0]), "+f"(d.values[1]), "+f"(d.values[2]), "+f"(d.values[3])
               : "l"(descriptor(a, 1024)), "l"(descriptor(b, 128))
               : "memory");
}
__device__ void hold(Fragment& d) {
  for (float& value : d.values) asm volatile("" : "+f"(value)::"memory");
}

constexpr int kChunksA = 128, kChunksB = 16;  // of 16 bytes

template <bool kFenceProxy, bool kFence, bool kWait>
__device__ void product(float* out) {
  alignas(128) __shared__ uint4 a[kChunksA], b[kChunksB];
  a[threadIdx.x] = {};
  if (threadIdx.x < kChunksB) b[threadIdx.x] = {};
  if (kFenceProxy) proxy_fence();
  __syncthreads();
  Fragment d;
  hold(d);
  if (kFence) wgmma_fence();
  wgmma(d, a, b);
  wgmma_commit();
  if (kWait) {
    wgmma_wait();
    hold(d);
  }
  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = d.values[i];
  if (!kWait) wgmma_wait();
}

template <bool kBug>
__global__ void wgmma_without_proxy_fence(float* out) {
  product<!kBug, true, true>(out);  // named: wgmma_without_proxy_fence
}
template <bool kBug>
__global__ void missing_wgmma_fence(float* out) {
  product<true, !kBug, true>(out);  // named: missing_wgmma_fence
}
template <bool kBug>
__global__ void accumulator_before_wait(float* out) {
  product<true, true, !kBug>(out);  // named: accumulator_before_wait
}

// The operand is overwritten while the product may still read it.
template <bool kBug>
__global__ void operand_overwritten(float* out) {
  alignas(128) __shared__ uint4 a[kChunksA], b[kChunksB];
  a[threadIdx.x] = {};
  if (threadIdx.x < kChunksB) b[threadIdx.x] = {};
  proxy_fence();
  __syncthreads();
  Fragment d;
  hold(d);
  wgmma_fence();
  wgmma(d, a, b);
  wgmma_commit();
  if (!kBug) wgmma_wait();
  __syncthreads();
  a[threadIdx.x] = {1, 1, 1, 1};  // named: operand_overwritten
  if (kBug) wgmma_wait();
  hold(d);
  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = d.values[i];
}

// --- clusters of two blocks

template <bool kBug>
__global__ void __cluster_dims__(2, 1, 1) remote_after_exit(int* out) {
  __shared__ int shared[32];
  auto cluster = cooperative_groups::this_cluster();
  shared[threadIdx.x] = cluster.block_rank();
  cluster.sync();
  if (cluster.block_rank() == 0) {
    for (int i = 0; kBug && i < 2000; i++) __nanosleep(10);
    out[threadIdx.x] = *cluster.map_shared_rank(&shared[threadIdx.x], 1);  // named: remote_after_exit
  }
  if (!kBug) cluster.sync();
}

template <bool kBug>
__global__ void __cluster_dims__(2, 1, 1) remote_race(int* out) {
  __shared__ int shared[32];
  auto cluster = cooperative_groups::this_cluster();
  shared[threadIdx.x] = cluster.block_rank();
  if (kBug)
    __syncthreads();
  else
    cluster.sync();
  const int other = cluster.block_rank() ^ 1;
  out[32 * other + threadIdx.x] = *cluster.map_shared_rank(&shared[threadIdx.x], other);  // named: remote_race
  cluster.sync();
}

// --- the table

#define LAUNCH(kernel, grid, block, ...)           \
  do {                                             \
    if (bug)                                       \
      kernel<true><<<grid, block>>>(__VA_ARGS__);  \
    else                                           \
      kernel<false><<<grid, block>>>(__VA_ARGS__); \
  } while (false)

template <auto kWith, auto kWithout>
void copying(bool bug) {
  int *in = allocate<int>(kWords), *out = allocate<int>(2 * kWords);
  (bug ? kWith : kWithout)<<<1, kWords>>>(in, out);
  fetch(out, kWords);
}
template <auto kWith, auto kWithout>
void storing(bool bug) {
  int* out = allocate<int>(2 * kWords);
  (bug ? kWith : kWithout)<<<1, kWords>>>(out);
  fetch(out, 2 * kWords);
}
template <auto kWith, auto kWithout>
void multiplying(bool bug) {
  float* out = allocate<float>(512);
  (bug ? kWith : kWithout)<<<1, 128>>>(out);
  fetch(reinterpret_cast<int*>(out), 512);
}
#define COPYING(kernel) copying<kernel<true>, kernel<false>>
#define STORING(kernel) storing<kernel<true>, kernel<false>>
#define MULTIPLYING(kernel) multiplying<kernel<true>, kernel<false>>

CUtensorMap encoded_map(int* data) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found);
  CUtensorMap map{};
  const cuuint64_t size = kWords, stride = 0;
  const cuuint32_t box = kWords, step = 1;
  reinterpret_cast<Encode>(encode)(&map, CU_TENSOR_MAP_DATA_TYPE_INT32, 1, data, &size, &stride, &box, &step,
                                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                   CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

const Planted kBugs[] = {
    {"missing_mbarrier_wait", "race: this", COPYING(missing_mbarrier_wait), "cp.async.bulk"},
    {"wrong_mbarrier", "race: this", COPYING(wrong_mbarrier), "cp.async.bulk"},
    {"load_over_reader", "race: this write to shared", COPYING(load_over_reader)},
    {"never_enough_bytes", "deadlock", COPYING(never_enough_bytes), "a phase of an mbarrier"},
    {"missing_proxy_fence", "fence.proxy.async is missing", STORING(missing_proxy_fence), "thread (0,0,0)"},
    {"store_not_read_yet", "race", STORING(store_not_read_yet), "bulk"},
    {"stale_map", "the tensor map was never encoded",
     [](bool bug) {
       int *data = allocate<int>(kWords), *out = allocate<int>(kWords);
       stale_map<<<1, kWords>>>(bug ? CUtensorMap{} : encoded_map(data), out);
       fetch(out, kWords);
     },
     "thread (0,0,0)"},
    {"wgmma_without_proxy_fence", "fence.proxy.async is missing", MULTIPLYING(wgmma_without_proxy_fence)},
    {"missing_wgmma_fence", "no wgmma.fence between", MULTIPLYING(missing_wgmma_fence)},
    {"accumulator_before_wait", "before wgmma.wait_group", MULTIPLYING(accumulator_before_wait)},
    {"operand_overwritten", "race: this", MULTIPLYING(operand_overwritten), "wgmma"},
    {"remote_after_exit", "a block of the cluster that has exited",
     [](bool bug) { LAUNCH(remote_after_exit, 2, 32, allocate<int>(32)); }, "block (0,0,0)"},
    {"remote_race", "race: this", [](bool bug) { LAUNCH(remote_race, 2, 32, allocate<int>(64)); }},
};

}  // namespace

std::span<const Planted> bugs_sm90() { return kBugs; }
const char* source_sm90() { return __FILE__; }

}  // namespace planted
