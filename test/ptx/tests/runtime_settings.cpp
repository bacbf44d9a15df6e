// The card and the driver as the environment describes them; names of errors; what is not implemented.
#include <cstring>

#include "runtime/error.h"
#include "runtime/fatbin.h"
#include "runtime_fixture.h"

using namespace runtime_tests;

namespace {

int visible(const char* list) {
  Fixture fixture{{"PTX_DEVICES", "3"}, {"CUDA_VISIBLE_DEVICES", list}};
  int count = -1;
  const cudaError_t error = cudaGetDeviceCount(&count);
  CHECK(error == (count ? cudaSuccess : cudaErrorNoDevice));
  return count;
}

rt::FatEntry entry(rt::FatEntry::Kind kind, int architecture, bool exact) {
  rt::FatEntry made;
  made.kind = kind;
  made.architecture = architecture;
  made.exact = exact;
  return made;
}

}  // namespace

TEST_CASE("runtime: no driver, a driver that is too old, a driver without devices") {
  int value = -1;
  void* pointer = nullptr;
  SUBCASE("none") {
    Fixture fixture{{"PTX_DRIVER", "0"}};
    CHECK(cudaDriverGetVersion(&value) == cudaSuccess);
    CHECK(value == 0);
    CHECK(cudaGetDeviceCount(&value) == cudaErrorInsufficientDriver);
    CHECK(value == 0);
    CHECK(cudaMalloc(&pointer, 4) == cudaErrorInsufficientDriver);
  }
  SUBCASE("too old") {
    Fixture fixture{{"PTX_DRIVER", "12080"}};
    CHECK(cudaDriverGetVersion(&value) == cudaSuccess);
    CHECK(value == 12080);
    CHECK(cudaGetDeviceCount(&value) == cudaErrorInsufficientDriver);
  }
  SUBCASE("no device") {
    Fixture fixture{{"PTX_DEVICES", "0"}};
    CHECK(cudaGetDeviceCount(&value) == cudaErrorNoDevice);
    CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
    CHECK(cudaMalloc(&pointer, 4) == cudaErrorNoDevice);
  }
}

TEST_CASE("runtime: CUDA_VISIBLE_DEVICES") {
  CHECK(visible("") == 0);
  CHECK(visible("-1") == 0);
  CHECK(visible("2") == 1);
  CHECK(visible("2,0") == 2);
  CHECK(visible("0,7,1") == 1);  // the first that does not exist ends the list
  CHECK(visible("1,1") == 0);
  CHECK(visible("GPU-1234") == 0);
  Fixture fixture{{"PTX_DEVICES", "3"}, {"CUDA_VISIBLE_DEVICES", "2,0"}};
  char bus[32];
  CHECK(cudaDeviceGetPCIBusId(bus, 32, 0) == cudaSuccess);
  CHECK(std::string(bus) == "0000:03:00.0");
}

TEST_CASE("runtime: the card's properties and attributes agree") {
  const std::tuple<const char*, int, int, int> cards[] = {
      {"sm_80", 8, 0, 163}, {"sm_89", 8, 9, 99}, {"sm_90", 9, 0, 227}, {"sm_100", 10, 0, 227}, {"sm_120", 12, 0, 99}};
  for (const auto& [device, major, minor, shared] : cards) {
    CAPTURE(device);
    Fixture fixture{{"PTX_DEVICE", device}, {"PTX_SMS", "7"}, {"PTX_MEMORY", "1073741824"}};
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
    CHECK(properties.major == major);
    CHECK(properties.minor == minor);
    CHECK(properties.sharedMemPerBlockOptin == static_cast<size_t>(shared) << 10);
    CHECK(properties.multiProcessorCount == 7);
    CHECK(properties.totalGlobalMem == 1 << 30);
    CHECK(properties.clusterLaunch == (major >= 9));
    int value = 0;
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
    CHECK(value == major);
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
    CHECK(value == shared << 10);
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 1) == cudaErrorInvalidDevice);
  }
}

TEST_CASE("runtime: the image is chosen as the driver does") {
  using Kind = rt::FatEntry::Kind;
  const std::vector<rt::FatEntry> entries = {entry(Kind::machine_code, 80, false), entry(Kind::ptx, 80, false),
                                             entry(Kind::machine_code, 90, true), entry(Kind::ptx, 90, true)};
  const auto target = [&](Kind kind, int architecture) {
    const rt::FatEntry* chosen = rt::choose(entries, kind, architecture);
    return chosen ? chosen->target() : "none";
  };
  CHECK(target(Kind::ptx, 75) == "none");
  CHECK(target(Kind::ptx, 80) == "sm_80");
  CHECK(target(Kind::ptx, 89) == "sm_80");
  CHECK(target(Kind::ptx, 90) == "sm_90a");
  CHECK(target(Kind::ptx, 100) == "sm_80");  // what was made for 9.0a runs on exactly 9.0
  CHECK(target(Kind::machine_code, 89) == "sm_80");
  CHECK(target(Kind::machine_code, 90) == "sm_90a");
  CHECK(target(Kind::machine_code, 100) == "none");
}

TEST_CASE("runtime: errors have names and texts, and each is handed out once") {
  Fixture fixture;
  CHECK(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)) == "cudaErrorMemoryAllocation");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorName(static_cast<cudaError_t>(12345))) == "unrecognized error code");
  CHECK(cudaMemset(nullptr, 0, 4) == cudaErrorInvalidValue);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("runtime: what is not implemented fails naming itself") {
  Fixture fixture;
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc format{32, 0, 0, 0, cudaChannelFormatKindFloat};
  CHECK(cudaMallocArray(&array, &format, 4, 4, 0) == cudaErrorNotSupported);
  CHECK(std::string(ptx_last_message()).find("cudaMallocArray") == 0);
}
