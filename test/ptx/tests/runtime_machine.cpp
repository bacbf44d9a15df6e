// The runtime with the machine behind it: host code, registration, PTX and execution together.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

bool message_has(const char* text) { return std::string(ptx_last_message()).find(text) != std::string::npos; }

}  // namespace

// sm_80 and sm_90 run the PTX compiled for them, sm_100 and sm_120 that of compute_80.
TEST_CASE("runtime and machine: a kernel computes, on every card and under several seeds") {
  for (const char* device : {"sm_80", "sm_90", "sm_100", "sm_120"}) {
    for (const char* seed : {"1", "2", "3"}) {
      CAPTURE(device);
      CAPTURE(seed);
      MachineFixture fixture{{"PTX_DEVICE", device}, {"PTX_SEED", seed}};
      std::vector<int> values(100), expected(100);
      for (int i = 0; i < 100; i++) expected[static_cast<size_t>(i)] = (values[static_cast<size_t>(i)] = i) + 1000;
      int* data = device_array(values);
      add(data, 1000, 100, nullptr);
      CHECK(to_host(data, 100) == expected);
    }
  }
}

TEST_CASE("runtime and machine: arguments, static and dynamic shared memory, variables and constants") {
  MachineFixture fixture;
  int* data = device_array({1, 2, 3, 4});
  mixed_arguments(1, 2.5, 3, {4, 5.5}, data);
  CHECK(to_host(data, 4) == std::vector<int>{16, 2, 3, 4});
  const int counter = 100;
  CHECK(cudaMemcpyToSymbol(counter_symbol(), &counter, 4) == cudaSuccess);
  void* arguments[] = {&data};
  CHECK(cudaLaunchKernel(static_shared_function(), 1, 4, arguments, 16, nullptr) == cudaSuccess);
  // reversed, plus the variable, plus the table of constants
  CHECK(to_host(data, 4) == std::vector<int>{4 + 100 + 1, 3 + 100 + 2, 2 + 100 + 3, 16 + 100 + 4});
}

TEST_CASE("runtime and machine: attributes and opt-ins of compiled kernels") {
  MachineFixture fixture;
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, static_shared_function()) == cudaSuccess);
  CHECK(attributes.sharedSizeBytes == 40000);
  CHECK(attributes.numRegs > 0);
  int* data = device_array(std::vector<int>(kBound, 1));
  CHECK(cudaFuncSetAttribute(bounded_function(), cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10) ==
        cudaSuccess);
  CHECK(launch_bounded(1, kBound, 100 << 10, data) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("runtime and machine: a cluster launch through cudaLaunchKernelExC") {
  MachineFixture fixture{{"PTX_DEVICE", "sm_90"}};
  int* data = device_array({0, 0, 0, 0});
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {2, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = 4;
  config.blockDim = 32;
  config.attrs = &attribute;
  config.numAttrs = 1;
  void* arguments[] = {&data};
  CHECK(cudaLaunchKernelExC(&config, clustered_function(), arguments) == cudaSuccess);
  CHECK(to_host(data, 4) == std::vector<int>{4, 4, 4, 4});
}

TEST_CASE("runtime and machine: an access out of bounds names kernel and line, and the device is lost") {
  MachineFixture fixture;
  int* data = device_array({1, 2, 3, 4});
  add(data, 1, 5, nullptr);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK(message_has("runtime_add"));
  CHECK(message_has("runtime_kernels.cu:"));
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

TEST_CASE("runtime and machine: work on memory that was freed before it in the stream's order") {
  MachineFixture fixture;
  int* data = device_array({1});
  CHECK(cudaFreeAsync(data, nullptr) == cudaSuccess);
  add(data, 1, 1, nullptr);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

TEST_CASE("runtime and machine: a value that was never written may not reach the host") {
  MachineFixture fixture;
  int* data = nullptr;
  int value = 0;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data), 8) == cudaSuccess);
  CHECK(cudaMemset(data, 1, 4) == cudaSuccess);
  add(data, 1, 2, nullptr);
  CHECK(cudaMemcpy(&value, data, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(value == 0x01010102);
  CHECK(cudaMemcpy(&value, data + 1, 4, cudaMemcpyDeviceToHost) == cudaErrorLaunchFailure);
  CHECK(message_has("undefined"));
}

TEST_CASE("runtime and machine: PTX_REPORT has a line for each launch") {
  char file[] = "/tmp/ptx-report-XXXXXX";
  close(mkstemp(file));
  {
    MachineFixture fixture{{"PTX_REPORT", file}};
    int* data = device_array(std::vector<int>(64, 1));
    add(data, 1, 64, nullptr);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
  std::ifstream in(file);
  std::string line, behind;
  CHECK(std::getline(in, line));
  CHECK_FALSE(std::getline(in, behind));
  CHECK(line.find("{\"kernel\":\"runtime_add\",\"device\":\"sm_80\",\"grid\":[1,1,1],\"block\":[32,1,1]") == 0);
  CHECK(line.find("\"load_bytes\":256,") != std::string::npos);
  CHECK(line.find("\"store_bytes\":256,") != std::string::npos);
  std::remove(file);
}
