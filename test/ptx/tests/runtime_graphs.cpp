// Stream capture and graphs.
#include <atomic>

#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

struct Streams {
  Streams() {
    for (cudaStream_t& stream : all) REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  }
  cudaStream_t all[2] = {};
  cudaEvent_t event = nullptr;
};

cudaGraphExec_t instantiate(cudaGraph_t graph) {
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  return executable;
}

void count_calls(void* count) { ++*static_cast<std::atomic<int>*>(count); }

}  // namespace

TEST_CASE("runtime: a captured graph runs nothing until it is launched, and then everything each time") {
  Fixture fixture;
  Streams streams;
  cudaStream_t stream = streams.all[0];
  int* data = device_array({1, 2});
  int* pinned = nullptr;
  std::atomic<int> calls{0};
  REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&pinned), 4) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  add(data, 10, 1, stream);
  CHECK(cudaMemsetAsync(data + 1, 0, 4, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(pinned, data, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaLaunchHostFunc(stream, count_calls, &calls) == cudaSuccess);
  cudaStreamCaptureStatus status;
  CHECK(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(ptx_pending() == 0);

  size_t count = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &count) == cudaSuccess);
  CHECK(count == 4);
  const cudaGraphExec_t executable = instantiate(graph);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  for (int i = 1; i <= 3; i++) {
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK(*pinned == 1 + 10 * i);
    CHECK(calls == i);
  }
  CHECK(to_host(data, 2) == std::vector<int>{31, 0});
  CHECK(counters().graph_launches == 3);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("runtime: a stream joins a capture by waiting for its event, and must be joined again") {
  Fixture fixture;
  Streams streams;
  auto [first, second] = streams.all;
  int* data = device_array({0});
  CHECK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal) == cudaSuccess);
  add(data, 1, 1, first);
  CHECK(cudaEventRecord(streams.event, first) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(second, streams.event, 0) == cudaSuccess);
  add(data, 10, 1, second);
  cudaGraph_t graph = nullptr;
  SUBCASE("joined") {
    CHECK(cudaEventRecord(streams.event, second) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(first, streams.event, 0) == cudaSuccess);
    add(data, 100, 1, first);
    CHECK(cudaStreamEndCapture(first, &graph) == cudaSuccess);
    CHECK(cudaGraphLaunch(instantiate(graph), first) == cudaSuccess);
    CHECK(cudaStreamSynchronize(first) == cudaSuccess);
    CHECK(to_host(data, 1)[0] == 111);
    add(data, 1, 1, second);  // an ordinary stream again
    CHECK(ptx_pending() == 1);
  }
  SUBCASE("not joined") {
    CHECK(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureUnjoined);
    CHECK(graph == nullptr);
  }
  SUBCASE("ended in the wrong stream") {
    CHECK(cudaStreamEndCapture(second, &graph) == cudaErrorStreamCaptureUnmatched);
  }
}

// Ten branches between a first and a last node: every launch draws an order, the ends stay where they are.
TEST_CASE("runtime: parts of a graph without an order between them run in orders that the seed draws") {
  Fixture fixture;
  Streams streams;
  auto [origin, branch] = streams.all;
  std::vector<int> order;
  FakeExecutor::kernels()["runtime_add"] = [&](FakeExecutor&, const rt::KernelCall& call) {
    order.push_back(static_cast<int>(call.parameters[8]));
  };
  int* data = device_array({0});
  cudaEvent_t fork = nullptr;
  REQUIRE(cudaEventCreate(&fork) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal) == cudaSuccess);
  add(data, 0, 1, origin);
  CHECK(cudaEventRecord(fork, origin) == cudaSuccess);
  std::vector<cudaStream_t> branches(10);
  for (int i = 0; i < 10; i++) {
    REQUIRE(cudaStreamCreateWithFlags(&branches[static_cast<size_t>(i)], cudaStreamNonBlocking) == cudaSuccess);
    branch = branches[static_cast<size_t>(i)];
    CHECK(cudaStreamWaitEvent(branch, fork, 0) == cudaSuccess);
    add(data, i + 1, 1, branch);
    CHECK(cudaEventRecord(streams.event, branch) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(origin, streams.event, 0) == cudaSuccess);
  }
  add(data, 11, 1, origin);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(origin, &graph) == cudaSuccess);
  const cudaGraphExec_t executable = instantiate(graph);
  std::vector<std::vector<int>> orders;
  for (int i = 0; i < 3; i++) {
    order.clear();
    CHECK(cudaGraphLaunch(executable, origin) == cudaSuccess);
    CHECK(cudaStreamSynchronize(origin) == cudaSuccess);
    REQUIRE(order.size() == 12);
    CHECK(order.front() == 0);
    CHECK(order.back() == 11);
    orders.push_back(order);
  }
  CHECK_FALSE(orders[0] == orders[1]);
  std::sort(orders[0].begin(), orders[0].end());
  std::sort(orders[1].begin(), orders[1].end());
  CHECK(orders[0] == orders[1]);
}

TEST_CASE("runtime: what cannot be done while a stream is captured, and spoils the capture") {
  Fixture fixture;
  Streams streams;
  cudaStream_t stream = streams.all[0];
  int* data = device_array({1});
  void* pointer = nullptr;
  int value = 0;
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  add(data, 1, 1, stream);
  SUBCASE("waiting for it") { CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported); }
  SUBCASE("asking it") { CHECK(cudaStreamQuery(stream) == cudaErrorStreamCaptureUnsupported); }
  SUBCASE("waiting for the device") { CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported); }
  SUBCASE("allocating") { CHECK(cudaMalloc(&pointer, 4) == cudaErrorStreamCaptureUnsupported); }
  SUBCASE("allocating in its order") {
    CHECK(cudaMallocAsync(&pointer, 4, stream) == cudaErrorStreamCaptureUnsupported);
  }
  SUBCASE("a blocking copy") {
    CHECK(cudaMemcpy(&value, data, 4, cudaMemcpyDeviceToHost) == cudaErrorStreamCaptureUnsupported);
  }
  SUBCASE("waiting for work outside") {
    CHECK(cudaEventRecord(streams.event, streams.all[1]) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(stream, streams.event, 0) == cudaErrorStreamCaptureIsolation);
  }
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaMalloc(&pointer, 4) == cudaSuccess);
}

TEST_CASE("runtime: a captured event is not one to wait for") {
  Fixture fixture;
  Streams streams;
  cudaStream_t stream = streams.all[0];
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(cudaEventRecord(streams.event, stream) == cudaSuccess);
  CHECK(cudaEventSynchronize(streams.event) == cudaErrorCapturedEvent);
  CHECK(cudaEventQuery(streams.event) == cudaErrorCapturedEvent);
}

TEST_CASE("runtime: the default stream while a blocking stream is captured") {
  Fixture fixture;
  int* data = device_array({1});
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  add(data, 1, 1, nullptr);
  CHECK(cudaGetLastError() == cudaErrorStreamCaptureImplicit);
}

TEST_CASE("runtime: relaxed capture forbids nothing elsewhere") {
  Fixture fixture;
  Streams streams;
  void* pointer = nullptr;
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamBeginCapture(streams.all[0], cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cudaMalloc(&pointer, 4) == cudaSuccess);
  CHECK(cudaStreamEndCapture(streams.all[0], &graph) == cudaSuccess);
}
