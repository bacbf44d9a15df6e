// When work runs, in what order, and what the host sees until then.
#include <atomic>
#include <thread>

#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

constexpr cudaMemcpyKind kDown = cudaMemcpyDeviceToHost, kUp = cudaMemcpyHostToDevice;

struct Stream {
  explicit Stream(unsigned flags = cudaStreamNonBlocking) { REQUIRE(cudaStreamCreateWithFlags(&handle, flags) == 0); }
  ~Stream() { cudaStreamDestroy(handle); }
  operator cudaStream_t() const { return handle; }
  cudaStream_t handle = nullptr;
};

struct Event {
  Event() { REQUIRE(cudaEventCreate(&handle) == 0); }
  ~Event() { cudaEventDestroy(handle); }
  operator cudaEvent_t() const { return handle; }
  cudaEvent_t handle = nullptr;
};

// One int of page-locked memory.
struct Pinned {
  Pinned() { REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&value), 4) == 0); }
  ~Pinned() { cudaFreeHost(value); }
  int* value = nullptr;
};

}  // namespace

TEST_CASE("runtime: nothing runs before something waits for it, and then only that stream") {
  Fixture fixture;
  int* data = device_array({1, 1});
  Stream first, second;
  const uint64_t before = counters().executed;
  add(data, 10, 1, first);
  add(data + 1, 20, 1, second);
  CHECK(ptx_pending() == 2);
  CHECK(counters().executed == before);
  CHECK(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(counters().executed == before + 1);
  CHECK(ptx_pending() == 1);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(ptx_pending() == 0);
  CHECK(to_host(data, 2) == std::vector<int>{11, 21});
}

TEST_CASE("runtime: PTX_EAGER=1 runs work when it is enqueued") {
  Fixture fixture{{"PTX_EAGER", "1"}};
  int* data = device_array({1});
  Stream stream;
  add(data, 10, 1, stream);
  CHECK(ptx_pending() == 0);
}

// Seeds 1, 3 and 2 draw the lazy, the eager and the mixed schedule.
TEST_CASE("runtime: the values are those of stream order under every schedule") {
  for (const char* seed : {"1", "2", "3", "5", "8"}) {
    CAPTURE(seed);
    Fixture fixture{{"PTX_SEED", seed}};
    int* data = device_array({1});
    Stream first, second;
    Event event;
    for (int i = 0; i < 20; i++) {
      add(data, 1, 1, first);
      CHECK(cudaEventRecord(event, first) == cudaSuccess);
      CHECK(cudaStreamWaitEvent(second, event, 0) == cudaSuccess);
      add(data, 100, 1, second);
      CHECK(cudaEventRecord(event, second) == cudaSuccess);
      CHECK(cudaStreamWaitEvent(first, event, 0) == cudaSuccess);
    }
    CHECK(cudaStreamSynchronize(first) == cudaSuccess);
    CHECK(to_host(data, 1)[0] == 1 + 20 * 101);
  }
}

TEST_CASE("runtime: waiting for an event runs what came before it and nothing behind it") {
  Fixture fixture;
  int* data = device_array({0, 0});
  Stream stream;
  Event event;
  add(data, 1, 1, stream);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  add(data + 1, 1, 1, stream);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(ptx_pending() == 1);
}

TEST_CASE("runtime: an event that was never recorded holds nobody up") {
  Fixture fixture;
  Stream stream;
  Event event;
  CHECK(cudaEventQuery(event) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(stream, event, 0) == cudaSuccess);
  CHECK(ptx_pending() == 0);
}

TEST_CASE("runtime: a query runs one piece of work and says not ready until all of it is done") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  for (int i = 0; i < 3; i++) add(data, 1, 1, stream);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(counters().queries == 3);
  CHECK(cudaGetLastError() == cudaErrorNotReady);
}

TEST_CASE("runtime: the default stream is in order with blocking streams and with no others") {
  Fixture fixture;
  int* data = device_array({0, 0});
  Stream blocking(cudaStreamDefault), other(cudaStreamNonBlocking);
  add(data, 1, 1, blocking);
  add(data + 1, 1, 1, other);
  add(data, 10, 1, nullptr);
  add(data, 100, 1, blocking);
  SUBCASE("the default stream waits for what blocking streams had") {
    CHECK(cudaStreamSynchronize(cudaStreamLegacy) == cudaSuccess);
    CHECK(ptx_pending() == 1);  // `other`; waiting for the default stream waits for `blocking` too
  }
  SUBCASE("a blocking stream waits for what the default stream had") {
    CHECK(cudaStreamSynchronize(blocking) == cudaSuccess);
    CHECK(ptx_pending() == 1);
  }
  CHECK(to_host(data, 1)[0] == 111);
}

TEST_CASE("runtime: pageable sources are read at the call, page-locked ones when the copy runs") {
  Fixture fixture;
  int* data = device_array({0, 0});
  Stream stream;
  Pinned pinned;
  int pageable = 1;
  *pinned.value = 1;
  CHECK(cudaMemcpyAsync(data, &pageable, 4, kUp, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(data + 1, pinned.value, 4, kUp, stream) == cudaSuccess);
  pageable = 2;
  *pinned.value = 2;
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(to_host(data, 2) == std::vector<int>{1, 2});
}

TEST_CASE("runtime: a page-locked destination holds no value until its copy has run") {
  Fixture fixture;
  int* data = device_array({5});
  Stream stream;
  Pinned pinned;
  *pinned.value = 5;
  CHECK(cudaMemcpyAsync(pinned.value, data, 4, kDown, stream) == cudaSuccess);
  CHECK(*pinned.value != 5);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(*pinned.value == 5);
}

// One buffer that goes up and comes back: the copy down may not spoil what the copy up has still to read.
TEST_CASE("runtime: a destination that an earlier copy still reads keeps its value") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  Pinned pinned;
  *pinned.value = 5;
  CHECK(cudaMemcpyAsync(data, pinned.value, 4, kUp, stream) == cudaSuccess);
  add(data, 1, 1, stream);
  CHECK(cudaMemcpyAsync(pinned.value, data, 4, kDown, stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(*pinned.value == 6);
}

TEST_CASE("runtime: an asynchronous copy to pageable memory waits, and is counted") {
  Fixture fixture;
  int* data = device_array({5});
  Stream stream;
  int value = 0;
  const uint64_t before = counters().synchronizations;
  CHECK(cudaMemcpyAsync(&value, data, 4, kDown, stream) == cudaSuccess);
  CHECK(value == 5);
  CHECK(counters().synchronizations == before + 1);
}

TEST_CASE("runtime: work of a destroyed stream still runs") {
  Fixture fixture;
  int* data = device_array({0});
  {
    Stream stream;
    add(data, 1, 1, stream);
  }
  CHECK(ptx_pending() == 1);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(to_host(data, 1)[0] == 1);
}

TEST_CASE("runtime: a full stream makes the caller wait for its oldest work") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  for (int i = 0; i < 1100; i++) add(data, 1, 1, stream);
  CHECK(ptx_pending() == 1024);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(to_host(data, 1)[0] == 1100);
}

TEST_CASE("runtime: a host function runs without anybody waiting, after what came before it, on another thread") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  struct Seen {
    std::atomic<bool> called{false};
    std::thread::id thread;
    cudaError_t inside = cudaSuccess;
  } seen;
  add(data, 1, 1, stream);
  const auto function = [](void* pointer) {
    auto& called = *static_cast<Seen*>(pointer);
    called.thread = std::this_thread::get_id();
    called.inside = cudaDeviceSynchronize();
    called.called = true;
  };
  CHECK(cudaLaunchHostFunc(stream, function, &seen) == cudaSuccess);
  add(data, 10, 1, stream);
  while (!seen.called) std::this_thread::yield();
  CHECK(seen.thread != std::this_thread::get_id());
  CHECK(seen.inside == cudaErrorNotPermitted);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(to_host(data, 1)[0] == 11);
}

TEST_CASE("runtime: a thread that waits for an event drives the work while another goes on enqueueing") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  Event event;
  std::atomic<bool> reached{false};
  add(data, 1, 1, stream);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  std::thread waiter([&] {
    if (cudaEventSynchronize(event) == cudaSuccess) reached = true;
  });
  for (int i = 0; i < 100; i++) add(data, 1, 1, stream);
  waiter.join();
  CHECK(reached);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(to_host(data, 1)[0] == 101);
}

TEST_CASE("runtime: handles that were destroyed are errors") {
  Fixture fixture;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  CHECK(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK(cudaEventCreate(&event) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaStreamDestroy(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(event, nullptr) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("runtime: elapsed time needs two events that were reached, with timing") {
  Fixture fixture;
  int* data = device_array({0});
  Stream stream;
  Event start, end;
  float milliseconds = -1;
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(start, stream) == cudaSuccess);
  add(data, 1, 1, stream);
  CHECK(cudaEventRecord(end, stream) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady);
  CHECK(cudaEventSynchronize(end) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess);
  CHECK(milliseconds >= 0);
}
