// Allocation, limits, pools, and copies that do not stay within what is allocated.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "machine/random.h"
#include "runtime/address_space.h"
#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

constexpr size_t kMiB = 1 << 20;

void* allocate(size_t bytes) {
  void* pointer = nullptr;
  REQUIRE(cudaMalloc(&pointer, bytes) == cudaSuccess);
  return pointer;
}

void* allocate_async(size_t bytes, cudaStream_t stream = nullptr) {
  void* pointer = nullptr;
  REQUIRE(cudaMallocAsync(&pointer, bytes, stream) == cudaSuccess);
  return pointer;
}

}  // namespace

TEST_CASE("runtime: beyond the limit allocation fails and the device can be used on") {
  Fixture fixture{{"PTX_MEMORY", std::to_string(64 * kMiB)}};
  void* first = allocate(40 * kMiB);
  void* second = &first;
  CHECK(cudaMalloc(&second, 40 * kMiB) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMallocAsync(&second, 40 * kMiB, nullptr) == cudaErrorMemoryAllocation);
  second = allocate(24 * kMiB);
  size_t free = 1, total = 0;
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 0);
  CHECK(total == 64 * kMiB);
  CHECK(cudaFree(first) == cudaSuccess);
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 40 * kMiB);
  CHECK(memory().peak == 64 * kMiB);
}

TEST_CASE("runtime: addresses are aligned to 256 bytes, and to no more") {
  Fixture fixture;
  for (const size_t bytes : {1u, 100u, 4096u}) CHECK(reinterpret_cast<uint64_t>(allocate(bytes)) % 512 == 256);
}

TEST_CASE("runtime: freed addresses are not given out again soon") {
  Fixture fixture;
  void* first = allocate(100);
  CHECK(cudaFree(first) == cudaSuccess);
  for (int i = 0; i < 100; i++) {
    void* other = allocate(100);
    CHECK_FALSE(other == first);
    CHECK(cudaFree(other) == cudaSuccess);
  }
}

// Far more bytes than the window, so that addresses come round many times.
TEST_CASE("runtime: addresses that are given out never overlap") {
  rt::AddressSpace space(7);
  foretoken::machine::Random random(1);
  std::map<uint64_t, uint64_t> live;
  uint64_t highest = 0;
  for (int i = 0; i < 20000; i++) {
    if (live.size() > 20) {
      auto victim = live.begin();
      std::advance(victim, random.below(20));
      space.give_back(victim->first);
      live.erase(victim);
    }
    const uint64_t bytes = 1 + random.below(16 << 20), alignment = 512u << random.below(13);
    const uint64_t address = space.take(bytes, alignment);
    REQUIRE(address != 0);
    REQUIRE(address % alignment == 0);
    const auto next = live.lower_bound(address);
    REQUIRE((next == live.end() || address + bytes < next->first));
    REQUIRE((next == live.begin() || std::prev(next)->second < address));
    live[address] = address + bytes;
    highest = std::max(highest, address + bytes - space.range().base);
  }
  CHECK(highest < 4ull << 30);
}

TEST_CASE("runtime: what was freed in stream order is there for earlier work and gone for later calls") {
  Fixture fixture;
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  int* data = static_cast<int*>(allocate_async(4, stream));
  CHECK(cudaMemsetAsync(data, 0, 4, stream) == cudaSuccess);
  add(data, 1, 1, stream);
  CHECK(cudaFreeAsync(data, stream) == cudaSuccess);
  CHECK(memory().used == 0);
  CHECK(memory().allocations == 1);
  int value = 0;
  CHECK(cudaMemcpyAsync(&value, data, 4, cudaMemcpyDeviceToHost, stream) == cudaErrorInvalidValue);
  CHECK(std::string(ptx_last_message()) == "copy: the source was freed before");
  CHECK(cudaFreeAsync(data, stream) == cudaErrorInvalidValue);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(memory().allocations == 0);
}

TEST_CASE("runtime: frees that have not run hold back no more memory than the device has") {
  Fixture fixture{{"PTX_MEMORY", std::to_string(64 * kMiB)}};
  for (int i = 0; i < 10; i++) {
    CHECK(cudaFreeAsync(allocate_async(20 * kMiB), nullptr) == cudaSuccess);
    CHECK(memory().allocations <= 3);
  }
}

TEST_CASE("runtime: a kernel that uses freed memory loses the device") {
  Fixture fixture;
  int* data = device_array({1});
  CHECK(cudaFreeAsync(data, nullptr) == cudaSuccess);
  add(data, 1, 1, nullptr);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  void* pointer = nullptr;
  CHECK(cudaMalloc(&pointer, 4) == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaDeviceReset() == cudaSuccess);
  CHECK(cudaMalloc(&pointer, 4) == cudaSuccess);
}

TEST_CASE("runtime: copies and fills beyond an allocation, or in the wrong direction, are refused") {
  Fixture fixture;
  int* data = device_array({1, 2});
  int host[4] = {};
  CHECK(cudaMemcpy(host, data, 12, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(std::string(ptx_last_message()) == "copy: the source reaches beyond the end of its allocation");
  CHECK(cudaMemcpy(host, data + 100, 4, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data, host, 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data, nullptr, 8, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(data, 0, 9) == cudaErrorInvalidValue);
  CHECK(cudaMemset(host, 0, 4) == cudaErrorInvalidValue);
  CHECK(cudaFree(data + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
}

TEST_CASE("runtime: rows of a two-dimensional copy and fill") {
  Fixture fixture;
  int* data = device_array({1, 2, 3, 4, 5, 6});
  int host[4] = {};
  CHECK(cudaMemcpy2D(host, 8, data, 12, 8, 2, cudaMemcpyDefault) == cudaSuccess);
  CHECK(std::vector<int>(host, host + 4) == std::vector<int>{1, 2, 4, 5});
  CHECK(cudaMemset2D(data, 12, 0, 4, 2) == cudaSuccess);
  CHECK(to_host(data, 6) == std::vector<int>{0, 2, 3, 0, 5, 6});
  CHECK(cudaMemcpy2D(host, 4, data, 12, 8, 2, cudaMemcpyDefault) == cudaErrorInvalidPitchValue);
}

TEST_CASE("runtime: cudaFree waits for the device") {
  Fixture fixture;
  int* data = device_array({1});
  add(data, 1, 1, nullptr);
  const uint64_t before = counters().synchronizations;
  CHECK(cudaFree(data) == cudaSuccess);
  CHECK(ptx_pending() == 0);
  CHECK(counters().synchronizations == before + 1);
}

TEST_CASE("runtime: a pool keeps what was freed up to its threshold, and gives it back to whoever needs it") {
  Fixture fixture{{"PTX_MEMORY", std::to_string(64 * kMiB)}};
  cudaMemPool_t pool = nullptr;
  CHECK(cudaDeviceGetDefaultMemPool(&pool, 0) == cudaSuccess);
  uint64_t threshold = 10 * kMiB, value = 0;
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold) == cudaSuccess);
  CHECK(cudaFreeAsync(allocate_async(40 * kMiB), nullptr) == cudaSuccess);
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &value) == cudaSuccess);
  CHECK(value == 40 * kMiB);
  CHECK(memory().reserved == 40 * kMiB);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(memory().reserved == 10 * kMiB);
  void* all = allocate(60 * kMiB);
  CHECK(memory().reserved == 60 * kMiB);
  CHECK(cudaFree(all) == cudaSuccess);
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &value) == cudaSuccess);
  CHECK(value == 40 * kMiB);
}

TEST_CASE("runtime: a pool of one's own, with a limit") {
  Fixture fixture;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, 0};
  properties.maxSize = kMiB;
  cudaMemPool_t pool = nullptr;
  CHECK(cudaMemPoolCreate(&pool, &properties) == cudaSuccess);
  void* pointer = nullptr;
  CHECK(cudaMallocFromPoolAsync(&pointer, 2 * kMiB, pool, nullptr) == cudaErrorMemoryAllocation);
  CHECK(cudaMallocFromPoolAsync(&pointer, kMiB, pool, nullptr) == cudaSuccess);
  CHECK(cudaMemPoolDestroy(pool) == cudaSuccess);
  CHECK(cudaFreeAsync(pointer, nullptr) == cudaSuccess);
  CHECK(memory().reserved == 0);
}

TEST_CASE("runtime: pointers know where they belong") {
  Fixture fixture;
  void* pinned = nullptr;
  int local = 0;
  REQUIRE(cudaHostAlloc(&pinned, 100, cudaHostAllocDefault) == cudaSuccess);
  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, static_cast<char*>(pinned) + 99) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeHost);
  CHECK(cudaPointerGetAttributes(&attributes, allocate(4)) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeDevice);
  CHECK(cudaPointerGetAttributes(&attributes, &local) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaErrorInvalidValue);
}

TEST_CASE("runtime: registered memory is page-locked memory") {
  Fixture fixture;
  std::vector<int> values(1000, 1);
  CHECK(cudaHostRegister(values.data(), 4000, cudaHostRegisterDefault) == cudaSuccess);
  CHECK(cudaHostRegister(values.data() + 10, 4, cudaHostRegisterDefault) == cudaErrorHostMemoryAlreadyRegistered);
  int* data = device_array({5});
  const uint64_t before = counters().synchronizations;
  CHECK(cudaMemcpyAsync(values.data(), data, 4, cudaMemcpyDeviceToHost, nullptr) == cudaSuccess);
  CHECK(counters().synchronizations == before);
  CHECK(values[0] != 5);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(values[0] == 5);
  CHECK(cudaHostUnregister(values.data()) == cudaSuccess);
  CHECK(cudaHostUnregister(values.data()) == cudaErrorHostMemoryNotRegistered);
}

TEST_CASE("runtime: variables of the device have their initial values and can be copied to and from") {
  Fixture fixture;
  int counter = 0;
  float table[4] = {};
  CHECK(cudaMemcpyFromSymbol(&counter, counter_symbol(), 4) == cudaSuccess);
  CHECK(counter == 7);
  CHECK(cudaMemcpyFromSymbol(table, table_symbol(), 8, 8) == cudaSuccess);
  CHECK(table[0] == 3);
  CHECK(table[1] == 4);
  counter = 9;
  CHECK(cudaMemcpyToSymbol(counter_symbol(), &counter, 4) == cudaSuccess);
  counter = 0;
  CHECK(cudaMemcpyFromSymbol(&counter, counter_symbol(), 4) == cudaSuccess);
  CHECK(counter == 9);
  CHECK(cudaMemcpyFromSymbol(table, table_symbol(), 16, 4) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyFromSymbol(table, &counter, 4) == cudaErrorInvalidSymbol);
}

TEST_CASE("runtime: host code that touches a device address crashes") {
  Fixture fixture;
  int* data = device_array({1});
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *const_cast<volatile int*>(data) = 2;
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSEGV);
}
