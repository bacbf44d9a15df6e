// What this machine can do at most, measured: multiply-adds from registers alone and reading memory, on all threads.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
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

double read_gigabytes(Threads& threads, const std::vector<uint64_t>& memory) {
  constexpr int64_t kPart = 1 << 13;
  int64_t parts = static_cast<int64_t>(memory.size()) / kPart;
  double start = seconds();
  parallel_for(threads.call(), parts, [&](int64_t part, int) {
    uint64_t sums[32] = {};
    for (int64_t i = 0; i < kPart; i += 32)
      for (int64_t j = 0; j < 32; j++) sums[j] |= memory[part * kPart + i + j];
    uint64_t all = 0;
    for (uint64_t sum : sums) all |= sum;
    sink = static_cast<float>(all);
  });
  return static_cast<double>(parts * kPart * 8) / (seconds() - start) * 1e-9;
}

}  // namespace
}  // namespace foretoken
