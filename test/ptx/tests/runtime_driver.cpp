// The driver's functions that are handed out: tensor maps, and memory that is mapped by hand.
#include <cuda.h>

#include <cstring>

#include "machine/tensor_map.h"
#include "runtime_fixture.h"

using namespace runtime_tests;
namespace machine = foretoken::machine;

namespace {

constexpr size_t kGranule = 2 << 20;

template <class Function>
Function* entry_point(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status;
  REQUIRE(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &status) == cudaSuccess);
  REQUIRE(status == cudaDriverEntryPointSuccess);
  return reinterpret_cast<Function*>(function);
}

// Arguments of cuTensorMapEncodeTiled that keep every rule; a test breaks one.
struct Encoding {
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  cuuint32_t rank = 2;
  uint64_t address = 0x2000'0000'1000;
  cuuint64_t dimensions[5] = {1000, 77, 1, 1, 1}, strides[4] = {2000, 0, 0, 0};
  cuuint32_t box[5] = {64, 128, 1, 1, 1}, element_strides[5] = {1, 1, 1, 1, 1};
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  CUtensorMap map{};

  CUresult encode() {
    return entry_point<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled")(
        &map, type, rank, reinterpret_cast<void*>(address), dimensions, strides, box, element_strides,
        CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE, fill);
  }
};

}  // namespace

TEST_CASE("runtime: a tensor map as the machine reads it") {
  Fixture fixture;
  Encoding encoding;
  REQUIRE(encoding.encode() == CUDA_SUCCESS);
  machine::TensorMap map;
  std::memcpy(&map, &encoding.map, sizeof(map));
  CHECK(map.magic == machine::kTensorMapMagic);
  CHECK(map.address == encoding.address);
  CHECK(map.rank == 2);
  CHECK(map.element == machine::TensorElement::bf16);
  CHECK(map.swizzle == machine::TensorSwizzle::bytes128);
  CHECK(map.dimensions[0] == 1000);
  CHECK(map.dimensions[1] == 77);
  CHECK(map.dimensions[2] == 1);
  CHECK(map.strides[0] == 2000);
  CHECK(map.box[0] == 64);
  CHECK(map.box[1] == 128);
  CHECK(map.fill_nan == 0);
}

TEST_CASE("runtime: every rule of cuTensorMapEncodeTiled") {
  Fixture fixture;
  const std::pair<const char*, void (*)(Encoding&)> broken[] = {
      {"the rank", [](Encoding& e) { e.rank = 6; }},
      {"the address", [](Encoding& e) { e.address += 8; }},
      {"a dimension", [](Encoding& e) { e.dimensions[1] = 0; }},
      {"a side of the box", [](Encoding& e) { e.box[1] = 257; }},
      {"an element stride", [](Encoding& e) { e.element_strides[0] = 9; }},
      {"a stride", [](Encoding& e) { e.strides[0] = 2008; }},
      {"must be a multiple of 16 bytes", [](Encoding& e) { e.box[0] = 63; }},
      {"must fit the swizzle", [](Encoding& e) { e.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; }},
      {"NaN",
       [](Encoding& e) {
         e.type = CU_TENSOR_MAP_DATA_TYPE_UINT16;
         e.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
       }},
  };
  for (const auto& [rule, breaks] : broken) {
    CAPTURE(rule);
    Encoding encoding;
    breaks(encoding);
    CHECK(encoding.encode() == CUDA_ERROR_INVALID_VALUE);
    CHECK(std::string(ptx_last_message()).find(rule) != std::string::npos);
  }
}

TEST_CASE("runtime: a function of the driver that is not there") {
  Fixture fixture;
  void* function = &function;
  cudaDriverEntryPointQueryResult status;
  CHECK(cudaGetDriverEntryPointByVersion("cuNothing", &function, 12000, 0, &status) == cudaSuccess);
  CHECK(status == cudaDriverEntryPointSymbolNotFound);
  CHECK(function == nullptr);
  CHECK(cudaGetDriverEntryPointByVersion("cuNothing", &function, 12000, 0, nullptr) == cudaErrorSymbolNotFound);
}

TEST_CASE("runtime: mapped memory is one range, counts towards the limit, and faults once it is unmapped") {
  Fixture fixture{{"PTX_MEMORY", std::to_string(3 * kGranule)}};
  const auto reserve = entry_point<decltype(cuMemAddressReserve)>("cuMemAddressReserve");
  const auto create = entry_point<decltype(cuMemCreate)>("cuMemCreate");
  const auto map = entry_point<decltype(cuMemMap)>("cuMemMap");
  const auto set_access = entry_point<decltype(cuMemSetAccess)>("cuMemSetAccess");
  const auto unmap = entry_point<decltype(cuMemUnmap)>("cuMemUnmap");
  const auto release = entry_point<decltype(cuMemRelease)>("cuMemRelease");
  const auto address_free = entry_point<decltype(cuMemAddressFree)>("cuMemAddressFree");
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  size_t granularity = 0;
  CHECK(entry_point<decltype(cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity")(
            &granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS);
  CHECK(granularity == kGranule);

  CUdeviceptr address = 0;
  CUmemGenericAllocationHandle handles[3] = {};
  REQUIRE(reserve(&address, 4 * kGranule, 0, 0, 0) == CUDA_SUCCESS);
  CHECK(create(&handles[0], kGranule, &properties, 0) == CUDA_SUCCESS);
  CHECK(create(&handles[1], 2 * kGranule, &properties, 0) == CUDA_SUCCESS);
  CHECK(create(&handles[2], kGranule, &properties, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(create(&handles[2], kGranule - 1, &properties, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(map(address, kGranule, 0, handles[0], 0) == CUDA_SUCCESS);
  CHECK(map(address, kGranule, 0, handles[0], 0) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(map(address, 2 * kGranule, 0, handles[1], 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(map(address + kGranule, 2 * kGranule, 0, handles[1], 0) == CUDA_SUCCESS);
  void* pointer = reinterpret_cast<void*>(address);
  CHECK(cudaMemset(pointer, 0, 4) == cudaErrorInvalidValue);  // mapped, but not accessible
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  CHECK(set_access(address, 3 * kGranule, &access, 1) == CUDA_SUCCESS);
  CHECK(cudaMemset(pointer, 0, 4) == cudaSuccess);
  CHECK(cudaMemset(static_cast<char*>(pointer) + 3 * kGranule - 4, 0, 8) == cudaErrorInvalidValue);

  CHECK(address_free(address, 4 * kGranule) == CUDA_ERROR_INVALID_VALUE);
  CHECK(unmap(address, 3 * kGranule) == CUDA_SUCCESS);
  CHECK(cudaMemset(pointer, 0, 4) == cudaErrorInvalidValue);
  CHECK(release(handles[0]) == CUDA_SUCCESS);
  CHECK(release(handles[0]) == CUDA_ERROR_INVALID_VALUE);
  CHECK(memory().used == 2 * kGranule);
  CHECK(release(handles[1]) == CUDA_SUCCESS);
  CHECK(address_free(address, 4 * kGranule) == CUDA_SUCCESS);
  CHECK(memory().used == 0);
}
