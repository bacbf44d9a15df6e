// The functions of the driver that cudaGetDriverEntryPoint hands out: the ones that CUTLASS and allocators ask for.
#include <cuda.h>

#include <cstring>

#include "runtime.h"
#include "tensor_map.h"

using namespace foretoken::ptx::runtime;

namespace {

// The driver's codes and the runtime's are the same numbers, wherever both have one.
CUresult driver_call(const std::function<void(Runtime&, Lock&)>& body) {
  const cudaError_t kept = thread_state().last_error;
  const CUresult result = static_cast<CUresult>(call(body));
  thread_state().last_error = kept;  // cudaGetLastError knows nothing of the driver's errors
  return result;
}

Device& device_of_location(Runtime& runtime, const CUmemLocation& location) {
  require(location.type == CU_MEM_LOCATION_TYPE_DEVICE, cudaErrorNotSupported, "memory that is not on a device");
  return runtime.device_at(location.id);
}

Device& device_of_address(Runtime& runtime, uint64_t address) {
  for (const auto& device : runtime.devices)
    if (device->memory->owns(address)) return *device;
  throw Error(cudaErrorInvalidValue, "not an address of a device");
}

// Handles carry the device in their upper bits.
constexpr int kDeviceShift = 48;

Device& device_of_handle(Runtime& runtime, CUmemGenericAllocationHandle handle) {
  return runtime.device_at(static_cast<int>(handle >> kDeviceShift));
}
constexpr uint64_t local_handle(CUmemGenericAllocationHandle handle) { return handle & ((1ull << kDeviceShift) - 1); }

CUresult get_version(int* version) {
  *version = Runtime::instance().settings.driver_version;
  return CUDA_SUCCESS;
}

CUresult init(unsigned) {
  return driver_call([](Runtime&, Lock&) {});
}

CUresult get_device_count(int* count) {
  return driver_call([&](Runtime& runtime, Lock&) { *count = static_cast<int>(runtime.devices.size()); });
}

CUresult get_device(CUdevice* device, int ordinal) {
  return driver_call([&](Runtime& runtime, Lock&) { *device = runtime.device_at(ordinal).ordinal; });
}

CUresult get_error_name(CUresult error, const char** name) {
  *name = cudaGetErrorName(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

CUresult get_error_string(CUresult error, const char** text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                      const cuuint64_t* dimensions, const cuuint64_t* strides, const cuuint32_t* box,
                      const cuuint32_t* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                      CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  return driver_call([&](Runtime&, Lock&) {
    encode_tensor_map(
        map, {type, rank, address, dimensions, strides, box, element_strides, interleave, swizzle, promotion, fill});
  });
}

CUresult get_granularity(size_t* bytes, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
  *bytes = VirtualMemory::kGranularity;
  return CUDA_SUCCESS;
}

CUresult address_reserve(CUdeviceptr* address, size_t bytes, size_t alignment, CUdeviceptr, unsigned long long) {
  return driver_call([&](Runtime& runtime, Lock&) {
    Device& device = runtime.device();
    *address = device.virtual_memory.reserve(*device.memory, bytes, alignment);
  });
}

CUresult address_free(CUdeviceptr address, size_t bytes) {
  return driver_call([&](Runtime& runtime, Lock&) {
    Device& device = device_of_address(runtime, address);
    device.virtual_memory.free_reservation(*device.memory, address, bytes);
  });
}

CUresult create(CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp* properties,
                unsigned long long) {
  return driver_call([&](Runtime& runtime, Lock&) {
    Device& device = device_of_location(runtime, properties->location);
    const uint64_t made = device.virtual_memory.create(*device.memory, bytes);
    runtime.counters.allocations++;
    *handle = made | static_cast<uint64_t>(device.ordinal) << kDeviceShift;
  });
}

CUresult release(CUmemGenericAllocationHandle handle) {
  return driver_call([&](Runtime& runtime, Lock&) {
    Device& device = device_of_handle(runtime, handle);
    device.virtual_memory.release(*device.memory, local_handle(handle));
    runtime.counters.frees++;
  });
}

CUresult map(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
             unsigned long long) {
  return driver_call([&](Runtime& runtime, Lock&) {
    device_of_handle(runtime, handle).virtual_memory.map(address, bytes, offset, local_handle(handle));
  });
}

// Waits for the device, so that nothing that still runs can use the memory.
CUresult unmap(CUdeviceptr address, size_t bytes) {
  return driver_call([&](Runtime& runtime, Lock& lock) {
    Device& device = device_of_address(runtime, address);
    runtime.counters.synchronizations++;
    runtime.drive(lock, device);
    device.virtual_memory.unmap(*device.memory, address, bytes);
  });
}

CUresult set_access(CUdeviceptr address, size_t bytes, const CUmemAccessDesc* descriptions, size_t count) {
  return driver_call([&](Runtime& runtime, Lock&) {
    Device& owner = device_of_address(runtime, address);
    for (size_t i = 0; i < count; i++) {
      require(&device_of_location(runtime, descriptions[i].location) == &owner, cudaErrorNotSupported,
              "access from another device");
      owner.virtual_memory.set_access(*owner.memory, address, bytes,
                                      descriptions[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    }
  });
}

struct EntryPoint {
  const char* name;
  void* function;
};

const EntryPoint kEntryPoints[] = {
    {"cuDriverGetVersion", reinterpret_cast<void*>(get_version)},
    {"cuInit", reinterpret_cast<void*>(init)},
    {"cuDeviceGetCount", reinterpret_cast<void*>(get_device_count)},
    {"cuDeviceGet", reinterpret_cast<void*>(get_device)},
    {"cuGetErrorName", reinterpret_cast<void*>(get_error_name)},
    {"cuGetErrorString", reinterpret_cast<void*>(get_error_string)},
    {"cuTensorMapEncodeTiled", reinterpret_cast<void*>(encode_tiled)},
    {"cuMemGetAllocationGranularity", reinterpret_cast<void*>(get_granularity)},
    {"cuMemAddressReserve", reinterpret_cast<void*>(address_reserve)},
    {"cuMemAddressFree", reinterpret_cast<void*>(address_free)},
    {"cuMemCreate", reinterpret_cast<void*>(create)},
    {"cuMemRelease", reinterpret_cast<void*>(release)},
    {"cuMemMap", reinterpret_cast<void*>(map)},
    {"cuMemUnmap", reinterpret_cast<void*>(unmap)},
    {"cuMemSetAccess", reinterpret_cast<void*>(set_access)},
};

}  // namespace

extern "C" {

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* status) {
  return call(Needs::driver, [&](Runtime&, Lock&) {
    require(symbol && function, cudaErrorInvalidValue, "no name, or no place for the function");
    *function = nullptr;
    for (const EntryPoint& entry : kEntryPoints)
      if (std::strcmp(entry.name, symbol) == 0) *function = entry.function;
    if (status) *status = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    if (!*function && !status)
      throw Error(cudaErrorSymbolNotFound, std::string(symbol) + " is not implemented in the stand-in for the driver");
  });
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* status) {
  return cudaGetDriverEntryPointByVersion(symbol, function, CUDART_VERSION, flags, status);
}

}  // extern "C"
