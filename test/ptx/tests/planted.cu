// Bugs that need nothing but threads, memory and cp.async.
#undef NDEBUG
#include <cassert>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/workspace.h"
#include "planted.h"
#include "runtime/hooks.h"

namespace planted {

namespace {

// Device memory of a test; freed when the device is reset.
template <class T>
T* allocate(size_t count, int fill = 0) {
  T* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T));
  cudaMemset(data, fill, count * sizeof(T));
  return data;
}
int* undefined_ints(size_t count) {
  int* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(int));
  return data;
}

// The kernel with the bug or its twin.
#define LAUNCH(kernel, grid, block, shared, ...)           \
  do {                                                     \
    if (bug)                                               \
      kernel<true><<<grid, block, shared>>>(__VA_ARGS__);  \
    else                                                   \
      kernel<false><<<grid, block, shared>>>(__VA_ARGS__); \
  } while (false)

// The results reach the host.
void fetch(const int* data, size_t count) {
  std::vector<int> values(count);
  cudaMemcpy(values.data(), data, count * sizeof(int), cudaMemcpyDeviceToHost);
}

// --- undefined values

template <bool kBug>
__global__ void undefined_branch(const int* steps, int* out) {
  int sum = 0;
  for (int i = 0; i < steps[threadIdx.x]; i++) sum += out[i];  // named: undefined_branch
  out[threadIdx.x] = sum;
}

template <bool kBug>
__global__ void undefined_address(const int* index, int* out) {
  out[index[threadIdx.x]] = 1;  // named: undefined_address
}

template <bool kBug>
__global__ void undefined_store(const int* flags, int* out) {
  if (flags[threadIdx.x]) out[threadIdx.x] = 1;  // named: undefined_store
}

template <bool kBug>
__global__ void undefined_on_host(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x] + 1;  // named: undefined_on_host
}

template <bool kBug>
__global__ void half_written(int* out) {
  if (!kBug || threadIdx.x < 16) out[threadIdx.x] = 1;  // named: half_written
}

template <bool kBug>
__global__ void undefined_membership(const unsigned* members, int* out) {
  out[threadIdx.x] = __shfl_sync(members[0], threadIdx.x, 0);  // named: undefined_membership
}

template <bool kBug>
__global__ void not_a_member(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(kBug ? 0xfffe : 0xffff, threadIdx.x, 3);  // named: not_a_member
}

// --- addresses

template <bool kBug>
__global__ void shared_bounds(int* out) {
  extern __shared__ int shared[];
  shared[threadIdx.x + kBug] = 1;  // named: shared_bounds
  out[threadIdx.x] = shared[threadIdx.x + kBug];
}

template <bool kBug>
__global__ void global_bounds(int* out) {
  out[threadIdx.x + kBug] = 1;  // named: global_bounds
}

// Parts of (20) integers: one past the first is neither past the allocation nor in the second.
constexpr int kPart = 20;
template <bool kBug>
__global__ void workspace_bounds(int* first, int* second) {
  first[threadIdx.x + kBug] = 1;  // named: workspace_bounds
  second[threadIdx.x] = 2;
}

template <bool kBug>
__global__ void misaligned(const int* in, int4* out) {
  *out = *reinterpret_cast<const int4*>(in + kBug);  // named: misaligned
}

template <bool kBug>
__global__ void after_free(int* data) {
  data[threadIdx.x] = 1;  // named: after_free
}

template <bool kBug>
__global__ void after_free_async(int* data) {
  data[threadIdx.x] = 1;  // named: after_free_async
}

// --- races in a block

template <bool kBug>
__global__ void missing_barrier(int* out) {
  __shared__ int shared[64];
  shared[threadIdx.x] = threadIdx.x;
  if (!kBug) __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x ^ 32];  // named: missing_barrier
}

// A second round overwrites what the other warp may not have read yet.
template <bool kBug>
__global__ void missing_second_barrier(int* out) {
  __shared__ int shared[64];
  int sum = 0;
  for (int round = 0; round < 4; round++) {
    shared[threadIdx.x] = round;  // named: missing_second_barrier
    __syncthreads();
    sum += shared[threadIdx.x ^ 32];
    if (!kBug) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

template <bool kBug>
__global__ void missing_warp_sync(int* out) {
  __shared__ int shared[32];
  shared[threadIdx.x] = threadIdx.x;
  if (!kBug) __syncwarp();
  out[threadIdx.x] = shared[threadIdx.x ^ 1];  // named: missing_warp_sync
}

// Neighbours share a word, not a byte.
template <bool kBug>
__global__ void bytes_of_a_word(int* out) {
  __shared__ uint8_t shared[32];
  shared[threadIdx.x] = static_cast<uint8_t>(threadIdx.x);
  out[threadIdx.x] = shared[threadIdx.x ^ (kBug ? 1 : 0)];  // named: bytes_of_a_word
}

template <bool kBug>
__global__ void different_values(int* out) {
  __shared__ int shared;
  shared = kBug ? threadIdx.x : 7;  // named: different_values
  __syncwarp();
  out[threadIdx.x] = shared;
}

// Who comes last decides, unless all write the same.
template <bool kBug>
__global__ void last_warp_decides(int* out) {
  __shared__ int shared;
  if (threadIdx.x % 32 == 0) shared = kBug ? threadIdx.x : 7;  // named: last_warp_decides
  __syncthreads();
  out[threadIdx.x] = shared;
}

// Warps 0 and 1 meet at barrier 1; the third reads without.
template <bool kBug>
__global__ void partial_barrier(int* out) {
  __shared__ int shared[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 0) shared[lane] = lane;
  if (kBug && warp < 2) asm volatile("bar.sync 1, 64;" ::: "memory");
  if (!kBug) asm volatile("bar.sync 1, 96;" ::: "memory");
  if (warp > 0) out[threadIdx.x] = shared[lane];  // named: partial_barrier
}

// Producer and consumer by bar.arrive and bar.sync; the wrong one waits.
template <bool kBug>
__global__ void arrive_without_wait(int* out) {
  __shared__ int shared[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 0) shared[lane] = lane;
  if ((warp == 0) != kBug)
    asm volatile("bar.arrive 1, 64;" ::: "memory");
  else
    asm volatile("bar.sync 1, 64;" ::: "memory");
  if (warp == 1) out[lane] = shared[lane];  // named: arrive_without_wait
}

__device__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ void mbarrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
__device__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0]; }" ::"r"(shared_address(barrier)) : "memory");
}
__device__ uint64_t mbarrier_state(uint64_t* barrier) {
  uint64_t state;
  asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(shared_address(barrier)) : "memory");
  return state;
}
__device__ bool mbarrier_test(uint64_t* barrier, uint64_t state) {
  int done;
  asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
               : "=r"(done)
               : "r"(shared_address(barrier)), "l"(state)
               : "memory");
  return done;
}

// One lane tells the other warp that all have read; the others have not said so.
template <bool kBug>
__global__ void lane_speaks_for_warp(int* out) {
  __shared__ int shared[32];
  __shared__ uint64_t barrier;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) mbarrier_init(&barrier, 2);
  if (warp == 0) shared[lane] = lane;
  __syncthreads();
  if (warp == 1) {
    out[lane] = shared[31 - lane];
    if (!kBug) __syncwarp();
    if (lane == 0) mbarrier_arrive(&barrier);
  } else if (lane == 0) {
    const uint64_t state = mbarrier_state(&barrier);
    while (!mbarrier_test(&barrier, state)) {
    }
    shared[7] = 0;  // named: lane_speaks_for_warp
  }
}

// An mbarrier is used before its initialisation is known to the other warp.
template <bool kBug>
__global__ void early_mbarrier(int* out) {
  __shared__ uint64_t barrier;
  __shared__ volatile int ready;
  if (threadIdx.x == 0) ready = 0;
  __syncthreads();
  if (threadIdx.x == 0) mbarrier_init(&barrier, 1), ready = 1;
  if (kBug)
    while (threadIdx.x >= 32 && ready != 1) {
    }
  else
    __syncthreads();
  if (threadIdx.x == 32) mbarrier_arrive(&barrier);  // named: early_mbarrier
  out[threadIdx.x] = 1;
}

// --- cp.async

__device__ void copy_async(int* to, const int* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <bool kBug>
__global__ void missing_copy_wait(const int* in, int* out) {
  __shared__ int shared[2][32];
  copy_async(&shared[0][threadIdx.x], in + threadIdx.x);
  commit();
  copy_async(&shared[1][threadIdx.x], in + threadIdx.x);
  commit();
  wait<kBug ? 1 : 0>();
  out[threadIdx.x] = shared[0][threadIdx.x] + shared[1][threadIdx.x];  // named: missing_copy_wait
}

template <bool kBug>
__global__ void missing_barrier_after_copy(const int* in, int* out) {
  __shared__ int shared[64];
  copy_async(&shared[threadIdx.x], in + threadIdx.x);
  commit();
  wait<0>();
  if (!kBug) __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x ^ 32];  // named: missing_barrier_after_copy
}

template <bool kBug>
__global__ void copy_over_reader(const int* in, int* out) {
  __shared__ int shared[64];
  shared[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x ^ 32];
  if (!kBug) __syncthreads();
  copy_async(&shared[threadIdx.x], in + threadIdx.x);  // named: copy_over_reader
  wait<0>();
}

// --- between blocks

template <bool kBug>
__global__ void blocks_write_one_word(int* out) {
  if (kBug)
    out[threadIdx.x] = blockIdx.x;  // named: blocks_write_one_word
  else
    atomicAdd(&out[threadIdx.x], blockIdx.x);
}

__device__ void store_flag(int* flag, bool release) {
  if (release)
    asm volatile("st.release.gpu.global.b32 [%0], 1;" ::"l"(flag) : "memory");
  else
    asm volatile("st.relaxed.gpu.global.b32 [%0], 1;" ::"l"(flag) : "memory");
}
__device__ int load_flag(const int* flag) {
  int value;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

template <bool kBug>
__global__ void flag_without_release(int* data, int* flag, int* out) {
  if (blockIdx.x == 0) {
    data[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) store_flag(flag, !kBug);
  } else {
    if (threadIdx.x == 0)
      while (load_flag(flag) == 0) {
      }
    __syncthreads();
    out[threadIdx.x] = data[threadIdx.x];  // named: flag_without_release
  }
}

// The last block to finish adds up what all have left: the pattern of threadFenceReduction.
template <bool kBug>
__global__ void ticket_without_fence(int* parts, unsigned* tickets, int* out) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = blockIdx.x;
    if (!kBug) __threadfence();
    is_last = atomicAdd(tickets, 1) == gridDim.x - 1;
    if (!kBug) __threadfence();
  }
  __syncthreads();
  if (is_last && threadIdx.x < gridDim.x) out[threadIdx.x] = parts[threadIdx.x];  // named: ticket_without_fence
}

// membar.cta is of no use to another block.
template <bool kBug>
__global__ void fence_of_the_block(int* parts, unsigned* tickets, int* out) {
  if (threadIdx.x != 0) return;
  parts[blockIdx.x] = blockIdx.x;
  if (kBug)
    __threadfence_block();
  else
    __threadfence();
  if (atomicAdd(tickets, 1) == gridDim.x - 1) {
    __threadfence();
    for (int i = 0; i < static_cast<int>(gridDim.x); i++) out[i] = parts[i];  // named: fence_of_the_block
  }
}

// --- no progress, and the rest

template <bool kBug>
__global__ void divergent_barrier(volatile int* flag) {
  if (threadIdx.x < 32) {
    if (kBug) __syncthreads();  // named: divergent_barrier
    *flag = 1;
  } else {
    while (*flag == 0) {
    }
  }
  __syncthreads();
}

template <bool kBug>
__global__ void short_barrier() {
  if (threadIdx.x < 32 || !kBug) asm volatile("bar.sync 1, 64;" ::: "memory");  // named: short_barrier
}

template <bool kBug>
__global__ void never_arrives(int* out) {
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) mbarrier_init(&barrier, kBug ? 65 : 64);
  __syncthreads();
  const uint64_t state = mbarrier_state(&barrier);
  while (!mbarrier_test(&barrier, state)) {  // named: never_arrives
  }
  out[threadIdx.x] = 1;
}

template <bool kBug>
__global__ void printing(int* out) {
  if (kBug && threadIdx.x == 3) printf("out of range: %d\n", 5);  // named: printing
  out[threadIdx.x] = 1;
}

template <bool kBug>
__global__ void failed_assertion(int* out) {
  assert(threadIdx.x < (kBug ? 31 : 32));  // named: failed_assertion
  out[threadIdx.x] = 1;
}

// Most take a defined input of 64 values and an output, in one block.
template <auto kWith, auto kWithout, int kThreads>
void in_one_block(bool bug) {
  int *in = allocate<int>(64), *out = allocate<int>(kThreads);
  (bug ? kWith : kWithout)<<<1, kThreads>>>(in, out);
  fetch(out, kThreads);
}
template <auto kWith, auto kWithout, int kThreads>
void without_input(bool bug) {
  int* out = allocate<int>(kThreads);
  (bug ? kWith : kWithout)<<<1, kThreads, kThreads * sizeof(int)>>>(out);
  fetch(out, kThreads);
}
#define ONE_BLOCK(kernel, threads) in_one_block<kernel<true>, kernel<false>, threads>
#define NO_INPUT(kernel, threads) without_input<kernel<true>, kernel<false>, threads>

template <auto kWith, auto kWithout>
void undefined_input(bool bug) {
  int *in = bug ? undefined_ints(32) : allocate<int>(32), *out = allocate<int>(32);
  (bug ? kWith : kWithout)<<<1, 32>>>(in, out);
  fetch(out, 32);
}
#define UNDEFINED_INPUT(kernel) undefined_input<kernel<true>, kernel<false>>

constexpr int kBlocks = 6;

const Planted kBugs[] = {
    {"undefined_branch", "an undefined value decides a branch", UNDEFINED_INPUT(undefined_branch)},
    {"undefined_address", "an undefined value decides an address", UNDEFINED_INPUT(undefined_address)},
    {"undefined_store", "an undefined value decides", UNDEFINED_INPUT(undefined_store)},
    {"undefined_on_host", "a copy to the host reads an undefined value", UNDEFINED_INPUT(undefined_on_host),
     "of kernel "},
    {"half_written", "a copy to the host reads an undefined value",
     [](bool bug) {
       int* out = undefined_ints(32);
       LAUNCH(half_written, 1, 32, 0, out);
       fetch(out, 32);
     },
     "of thread (15,0,0) of block (0,0,0) of kernel "},
    {"undefined_membership", "an undefined value decides a membership mask",
     [](bool bug) {
       int* out = allocate<int>(32);
       unsigned* members = bug ? reinterpret_cast<unsigned*>(undefined_ints(1)) : allocate<unsigned>(1, 0xff);
       LAUNCH(undefined_membership, 1, 32, 0, members, out);
       fetch(out, 32);
     }},
    {"not_a_member", "a lane is not in its own membership mask", NO_INPUT(not_a_member, 32), "thread (0,0,0)"},
    {"shared_bounds", "out of bounds", NO_INPUT(shared_bounds, 32), "thread (31,0,0)"},
    {"global_bounds", "out of bounds: 0 bytes past", NO_INPUT(global_bounds, 32), "thread (31,0,0)"},
    {"workspace_bounds", "out of bounds: between two parts of a workspace, 0 bytes past the first",
     [](bool bug) {
       foretoken::cuda::gap_hook = ptx_forbid;
       foretoken::cuda::Workspace size(nullptr, 128);
       for (int part = 0; part < 2; part++) size.take<int>(kPart);
       foretoken::cuda::Workspace workspace(undefined_ints(size.bytes() / sizeof(int)), 128);
       int *first = workspace.take<int>(kPart), *second = workspace.take<int>(kPart);
       foretoken::cuda::gap_hook = nullptr;
       LAUNCH(workspace_bounds, 1, kPart, 0, first, second);
       fetch(first, kPart);
       fetch(second, kPart);
     },
     "thread (19,0,0)"},
    {"misaligned", "misaligned load of 16 bytes",
     [](bool bug) {
       int* in = allocate<int>(8);
       LAUNCH(misaligned, 1, 1, 0, in, allocate<int4>(1));
     },
     "thread (0,0,0)"},
    {"after_free", "freed allocation",
     [](bool bug) {
       int* data = allocate<int>(32);
       if (bug) cudaFree(data);
       LAUNCH(after_free, 1, 32, 0, data);
     }},
    {"after_free_async", "freed allocation",
     [](bool bug) {
       int* data = nullptr;
       cudaMallocAsync(reinterpret_cast<void**>(&data), 128, nullptr);
       if (bug) cudaFreeAsync(data, nullptr);
       LAUNCH(after_free_async, 1, 32, 0, data);
       if (!bug) cudaFreeAsync(data, nullptr);
     }},
    {"missing_barrier", "race: this", NO_INPUT(missing_barrier, 64)},
    {"missing_second_barrier", "race: this", NO_INPUT(missing_second_barrier, 64)},
    {"missing_warp_sync", "race: this read of shared", NO_INPUT(missing_warp_sync, 32),
     "is not ordered after the write"},
    {"bytes_of_a_word", "race: this read of shared", NO_INPUT(bytes_of_a_word, 32)},
    {"different_values", "write different values to one address at once", NO_INPUT(different_values, 32)},
    {"last_warp_decides", "race: this write to shared", NO_INPUT(last_warp_decides, 64)},
    {"partial_barrier", "race: this", NO_INPUT(partial_barrier, 96)},
    {"arrive_without_wait", "race: this", NO_INPUT(arrive_without_wait, 64)},
    {"lane_speaks_for_warp", "race: this write to shared", NO_INPUT(lane_speaks_for_warp, 64),
     "is not ordered after the read"},
    {"early_mbarrier", "race: this", NO_INPUT(early_mbarrier, 64)},
    {"missing_copy_wait", "race: this", ONE_BLOCK(missing_copy_wait, 32), "cp.async"},
    {"missing_barrier_after_copy", "race: this", ONE_BLOCK(missing_barrier_after_copy, 64), "cp.async"},
    {"copy_over_reader", "race: this", ONE_BLOCK(copy_over_reader, 64)},
    {"blocks_write_one_word", "race: this write to global",
     [](bool bug) {
       int* out = allocate<int>(32);
       LAUNCH(blocks_write_one_word, kBlocks, 32, 0, out);
       fetch(out, 32);
     }},
    {"flag_without_release", "race: this read of global",
     [](bool bug) {
       int *data = allocate<int>(64), *flag = allocate<int>(1), *out = allocate<int>(64);
       LAUNCH(flag_without_release, 2, 64, 0, data, flag, out);
       fetch(out, 64);
     },
     "of block (0,0,0)"},
    {"ticket_without_fence", "race: this read of global",
     [](bool bug) {
       int *parts = allocate<int>(kBlocks), *out = allocate<int>(kBlocks);
       LAUNCH(ticket_without_fence, kBlocks, 64, 0, parts, allocate<unsigned>(1), out);
       fetch(out, kBlocks);
     }},
    {"fence_of_the_block", "race: this read of global",
     [](bool bug) {
       int *parts = allocate<int>(kBlocks), *out = allocate<int>(kBlocks);
       LAUNCH(fence_of_the_block, kBlocks, 32, 0, parts, allocate<unsigned>(1), out);
       fetch(out, kBlocks);
     }},
    {"divergent_barrier", "deadlock", [](bool bug) { LAUNCH(divergent_barrier, 1, 64, 0, allocate<int>(1)); },
     "threads (0,0,0) to (31,0,0), at "},
    {"short_barrier", "deadlock", [](bool bug) { LAUNCH(short_barrier, 1, 64, 0); }, "waits for the barrier"},
    {"never_arrives", "deadlock", NO_INPUT(never_arrives, 64)},
    {"failed_assertion", "assertion failed: threadIdx.x < (kBug ? 31 : 32)", NO_INPUT(failed_assertion, 32),
     "thread (31,0,0)"},
    {"printing", "a device printf: out of range: 5", NO_INPUT(printing, 32), "thread (3,0,0)"},
};

}  // namespace

std::span<const Planted> bugs() { return kBugs; }
const char* source() { return __FILE__; }

}  // namespace planted
