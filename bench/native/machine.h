// What this machine can do at most, measured: multiply-adds from registers alone and reading memory, on all threads.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace foretoken {
namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

volatile float sink;

// ---- multiply-add loops: each runs `rounds` times over its accumulators and returns the FLOP ------------------------

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) double fma_256(int64_t rounds) {
  __m256 sums[12], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1e-3f);
  for (auto& sum : sums) sum = a;
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  for (auto& sum : sums) sink = _mm256_cvtss_f32(sum);
  return static_cast<double>(rounds) * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) double fma_512(int64_t rounds) {
  __m512 sums[24], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1e-3f);
  for (auto& sum : sums) sum = a;
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 24
    for (auto& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  for (auto& sum : sums) sink = _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * 24 * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) double dot_bf16(int64_t rounds) {
  __m512 sums[24];
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f003f00), b = (__m512bh)_mm512_set1_epi32(0x3a803a80);
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 24
    for (auto& sum : sums) sum = _mm512_dpbf16_ps(sum, a, b);
  for (auto& sum : sums) sink = _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * 24 * 32 * 2;
}

__attribute__((target("amx-tile,amx-bf16"))) double tile_bf16(int64_t rounds) {
  struct alignas(64) {
    uint8_t palette = 1, rest[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("" : : "r"(&config) : "memory");  // the builtin hides that it reads the configuration
  _tile_loadconfig(&config);
  for (int64_t i = 0; i < rounds; i++) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(rounds) * 4 * 16 * 16 * 32 * 2;
}
#endif

struct Loop {
  const char* level;  // the lowest that has the instruction
  const char* instruction;
  double (*run)(int64_t);
};

const std::vector<Loop> kLoops = {
#if defined(__x86_64__)
    {"avx2", "vfmadd ymm, f32", fma_256},
    {"avx512", "vfmadd zmm, f32", fma_512},
    {"avx512bf16", "vdpbf16ps zmm, bf16", dot_bf16},
    {"amx", "tdpbf16ps, bf16", tile_bf16},
#endif
};

// ---- rounds ---------------------------------------------------------------------------------------------------------

struct Threads {
  std::shared_ptr<ThreadPool> pool = ThreadPool::shared();
  std::atomic<bool> cancelled{false};
  PoolParallel parallel{pool, cancelled};
  Call call() {
    Call call;
    call.parallel = &parallel;
    return call;
  }
};

double multiply_gflops(Threads& threads, double (*loop)(int64_t)) {
  std::atomic<double> flop{0};
  double start = seconds();
  parallel_for(threads.call(), 16 * threads.parallel.threads, [&](int64_t, int) { flop += loop(20000); });
  return flop / (seconds() - start) * 1e-9;
}

// Of 64-bit words in huge pages, as the addon's memory has them.
class Words {
 public:
  explicit Words(size_t bytes)
      : count_(bytes / sizeof(uint64_t)),
        first_(static_cast<uint64_t*>(std::aligned_alloc(kHugePage, bytes_in_pages()))) {
    madvise(first_.get(), bytes_in_pages(), MADV_HUGEPAGE);
    std::fill_n(first_.get(), count_, 1);
  }
  const uint64_t* data() const { return first_.get(); }
  int64_t size() const { return static_cast<int64_t>(count_); }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    void operator()(uint64_t* words) const { std::free(words); }
  };

  size_t bytes_in_pages() const { return (count_ * 8 + kHugePage - 1) / kHugePage * kHugePage; }

  size_t count_;
  std::unique_ptr<uint64_t, Free> first_;
};

// In the widest vectors that the machine has.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t any_bit(const uint64_t* words, int64_t count) {
  constexpr int64_t kLanes = 64;
  uint64_t sums[kLanes] = {};
  for (int64_t i = 0; i < count; i += kLanes)
    for (int64_t j = 0; j < kLanes; j++) sums[j] |= words[i + j];
  uint64_t all = 0;
  for (uint64_t sum : sums) all |= sum;
  return all;
}

// Every thread reads a piece of its own from end to end, the fastest way: pieces of 64 KB dealt out in turn come at
// 19 GB/s from memory where these come at 34. What is small is read again and again, for a fork costs microseconds.
double read_gigabytes(Threads& threads, const Words& memory) {
  constexpr int64_t kUnit = 64;
  const int64_t piece = memory.size() / threads.parallel.threads / kUnit * kUnit;
  const int64_t passes = std::max<int64_t>(1, (64 << 17) / memory.size());
  double start = seconds();
  parallel_for(threads.call(), threads.parallel.threads, [&](int64_t thread, int) {
    for (int64_t pass = 0; pass < passes; pass++)
      sink = static_cast<float>(any_bit(memory.data() + thread * piece, piece));
  });
  return static_cast<double>(passes * threads.parallel.threads * piece * 8) / (seconds() - start) * 1e-9;
}

}  // namespace
}  // namespace foretoken
