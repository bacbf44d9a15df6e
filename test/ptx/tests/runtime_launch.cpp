// Launches: arguments, and every limit of the card.
#include <cstring>

#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

bool message_has(const char* text) { return std::string(ptx_last_message()).find(text) != std::string::npos; }

cudaError_t launch_clustered(unsigned grid, unsigned cluster, int* data) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = 32;
  config.attrs = &attribute;
  config.numAttrs = 1;
  void* arguments[] = {&data};
  return cudaLaunchKernelExC(&config, clustered_function(), arguments);
}

}  // namespace

TEST_CASE("runtime: arguments are packed as the kernel's parameters lie") {
  Fixture fixture;
  std::vector<std::byte> seen;
  FakeExecutor::kernels()["runtime_mixed"] = [&](FakeExecutor&, const rt::KernelCall& call) {
    seen.assign(call.parameters.begin(), call.parameters.end());
  };
  struct {
    char a;
    double b;
    short c;
    Mixed d;
    void* e;
  } expected{};
  expected = {1, 2.5, 3, {4, 5.5}, &expected};
  mixed_arguments(1, 2.5, 3, {4, 5.5}, &expected);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(seen.size() == sizeof(expected));
  decltype(expected) got;
  std::memcpy(&got, seen.data(), sizeof(got));
  CHECK(got.a == 1);
  CHECK(got.b == 2.5);
  CHECK(got.c == 3);
  CHECK(got.d.letter == 4);
  CHECK(got.d.number == 5.5);
  CHECK(got.e == &expected);
}

TEST_CASE("runtime: grids and blocks beyond the card's limits") {
  Fixture fixture;
  int* data = device_array({1});
  CHECK(launch_bounded(1, 32, 128, data) == cudaSuccess);
  for (const dim3 grid : {dim3(0), dim3(1, 65536), dim3(1, 1, 65536), dim3(0x80000000u)})
    CHECK(launch_bounded(grid, 32, 128, data) == cudaErrorInvalidConfiguration);
  for (const dim3 block : {dim3(0), dim3(1025), dim3(1, 1, 65), dim3(32, 33)})
    CHECK(launch_bounded(1, block, 128, data) == cudaErrorInvalidConfiguration);
}

TEST_CASE("runtime: more threads than the launch bounds") {
  Fixture fixture;
  int* data = device_array({1});
  CHECK(launch_bounded(1, kBound, 0, data) == cudaSuccess);
  CHECK(launch_bounded(1, kBound + 1, 0, data) == cudaErrorInvalidValue);
  CHECK(message_has("launch bounds are 128"));
}

// sm_80: 163 KB a block; sm_90: 227 KB; sm_89 and sm_120: 99 KB.
TEST_CASE("runtime: dynamic shared memory needs an opt-in beyond 48 KB, and has the card's limit") {
  const std::pair<const char*, int> limits[] = {{"sm_80", 163}, {"sm_89", 99}, {"sm_90", 227}, {"sm_120", 99}};
  for (const auto& [device, limit] : limits) {
    CAPTURE(device);
    Fixture fixture{{"PTX_DEVICE", device}};
    int* data = device_array({1});
    const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    CHECK(launch_bounded(1, 32, 48 << 10, data) == cudaSuccess);
    CHECK(launch_bounded(1, 32, (48 << 10) + 1, data) == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(bounded_function(), attribute, (limit << 10) + 1) == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(bounded_function(), attribute, limit << 10) == cudaSuccess);
    CHECK(launch_bounded(1, 32, static_cast<size_t>(limit) << 10, data) == cudaSuccess);
    CHECK(launch_bounded(1, 32, (static_cast<size_t>(limit) << 10) + 1, data) == cudaErrorInvalidValue);
  }
}

TEST_CASE("runtime: static shared memory counts towards the same limits") {
  Fixture fixture;
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, static_shared_function()) == cudaSuccess);
  CHECK(attributes.sharedSizeBytes == 40000);
  CHECK(attributes.maxDynamicSharedSizeBytes == (48 << 10) - 40000);
  CHECK(cudaFuncSetAttribute(static_shared_function(), attribute, (163 << 10) - 39999) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(static_shared_function(), attribute, (163 << 10) - 40000) == cudaSuccess);
}

TEST_CASE("runtime: attributes are those of the image that the driver would take") {
  const std::tuple<const char*, int, int> images[] = {
      {"sm_80", 80, 80}, {"sm_89", 80, 80}, {"sm_90", 90, 90}, {"sm_100", 80, 100}};
  for (const auto& [device, ptx, binary] : images) {
    CAPTURE(device);
    Fixture fixture{{"PTX_DEVICE", device}};
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, bounded_function()) == cudaSuccess);
    CHECK(attributes.ptxVersion == ptx);
    CHECK(attributes.binaryVersion == binary);
    CHECK(attributes.maxThreadsPerBlock == kBound);
    // Without machine code for the card the fake executor knows of none.
    CHECK((attributes.numRegs > 0) == (binary != 100));
  }
}

TEST_CASE("runtime: a function that is no kernel, and a kernel on a stream of another device") {
  Fixture fixture{{"PTX_DEVICES", "2"}};
  cudaFuncAttributes attributes;
  int no_kernel = 0;
  CHECK(cudaFuncGetAttributes(&attributes, &no_kernel) == cudaErrorInvalidDeviceFunction);
  int* data = device_array({1});
  cudaStream_t stream = nullptr;
  CHECK(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  add(data, 1, 1, stream);
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
}

TEST_CASE("runtime: a cooperative grid must be resident as a whole") {
  Fixture fixture{{"PTX_SMS", "2"}};
  int* data = device_array({1});
  int blocks = 0, value = 0;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add_function(), 256, 0) == cudaSuccess);
  CHECK(blocks == 8);  // 2048 threads on an SM of sm_80
  void* arguments[] = {&data, &value, &value};
  CHECK(cudaLaunchCooperativeKernel(add_function(), 16, 256, arguments, 0, nullptr) == cudaSuccess);
  CHECK(cudaLaunchCooperativeKernel(add_function(), 17, 256, arguments, 0, nullptr) ==
        cudaErrorCooperativeLaunchTooLarge);
}

TEST_CASE("runtime: occupancy falls with shared memory") {
  Fixture fixture;
  int blocks = 0;
  size_t bytes = 0;
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  CHECK(cudaFuncSetAttribute(bounded_function(), attribute, 163 << 10) == cudaSuccess);
  // 164 KB an SM, of which every block takes 1 KB more than it asks for.
  for (const auto& [asked, expected] : {std::pair{163, 1}, {81, 2}, {40, 4}, {9, 16}}) {
    CAPTURE(asked);
    const size_t shared = static_cast<size_t>(asked) << 10;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, bounded_function(), 128, shared) == cudaSuccess);
    CHECK(blocks == expected);
  }
  CHECK(cudaOccupancyAvailableDynamicSMemPerBlock(&bytes, bounded_function(), 2, 128) == cudaSuccess);
  CHECK(bytes == 81 << 10);
}

TEST_CASE("runtime: clusters only where the card has them, whole ones, of at most eight blocks") {
  int* data = nullptr;
  {
    Fixture fixture{{"PTX_DEVICE", "sm_80"}};
    CHECK(launch_clustered(2, 2, data) == cudaErrorInvalidClusterSize);
    CHECK(launch_clustered(2, 1, data) == cudaSuccess);
  }
  Fixture fixture{{"PTX_DEVICE", "sm_90"}};
  rt::Dimensions seen;
  FakeExecutor::kernels()["runtime_clustered"] = [&](FakeExecutor&, const rt::KernelCall& call) {
    seen = call.cluster;
  };
  CHECK(launch_clustered(4, 2, data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(seen.x == 2);
  CHECK(launch_clustered(3, 2, data) == cudaErrorInvalidClusterSize);
  CHECK(launch_clustered(16, 16, data) == cudaErrorInvalidClusterSize);
  CHECK(cudaFuncSetAttribute(clustered_function(), cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess);
  CHECK(launch_clustered(16, 16, data) == cudaSuccess);
}

TEST_CASE("runtime: PTX_DRY=1 records launches and computes nothing") {
  Fixture fixture{{"PTX_DRY", "1"}};
  int* data = nullptr;
  int value = 1;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data), 4ull << 30) == cudaSuccess);
  CHECK(cudaMemcpy(data, &value, 4, cudaMemcpyHostToDevice) == cudaSuccess);
  add(data, 1, 1, nullptr);
  CHECK(cudaMemcpy(&value, data, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(value == 0);
  PtxLaunch launch;
  REQUIRE(ptx_launches(0, &launch, 1) == 1);
  CHECK(std::string(launch.kernel) == "runtime_add");
  CHECK(launch.block[0] == 32);
  CHECK(memory().peak == 4ull << 30);
}
