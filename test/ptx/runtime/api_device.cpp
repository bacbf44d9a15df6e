// Devices: how many, which one, what they can do.
#include <algorithm>
#include <cstring>

#include "runtime.h"

using namespace foretoken::ptx::runtime;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  if (count) *count = 0;
  return call(Needs::driver, [&](Runtime& runtime, Lock&) {
    require(count != nullptr, cudaErrorInvalidValue, "no place for the count");
    require(!runtime.devices.empty(), cudaErrorNoDevice, "no device");
    *count = static_cast<int>(runtime.devices.size());
  });
}

cudaError_t cudaGetDevice(int* device) {
  return call([&](Runtime&, Lock&) {
    require(device != nullptr, cudaErrorInvalidValue, "no place for the device");
    *device = thread_state().device;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call(Needs::driver, [&](Runtime& runtime, Lock&) {
    require(!runtime.devices.empty(), cudaErrorNoDevice, "no device");
    Runtime::check(runtime.device_at(device));
    thread_state().device = device;
  });
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  return call([&](Runtime& runtime, Lock&) { runtime.device_at(device); });
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
  return call([&](Runtime& runtime, Lock&) { runtime.device().flags = flags; });
}

cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  return call([&](Runtime& runtime, Lock&) { *flags = runtime.device().flags; });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call([&](Runtime& runtime, Lock&) {
    require(properties != nullptr, cudaErrorInvalidValue, "no place for the properties");
    *properties = properties_of(runtime.device_at(device).card);
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return call([&](Runtime& runtime, Lock&) {
    require(value != nullptr, cudaErrorInvalidValue, "no place for the value");
    const Device& asked = runtime.device_at(device);
    if (!attribute_of(asked.card, attribute, *value))
      throw Error(cudaErrorInvalidValue, "attribute " + std::to_string(attribute) + " is not known here");
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return call([&](Runtime& runtime, Lock&) {
    const std::string text = "0000:0" + std::to_string(runtime.device_at(device).card.index + 1) + ":00.0";
    require(id && length > static_cast<int>(text.size()), cudaErrorInvalidValue, "no place for the id");
    std::memcpy(id, text.c_str(), text.size() + 1);
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return call([&](Runtime& runtime, Lock&) {
    runtime.device_at(device);
    runtime.device_at(peer);
    *can = 0;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call([&](Runtime&, Lock&) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call([&](Runtime& runtime, Lock& lock) {
    runtime.forbid_while_capturing("cudaDeviceSynchronize");
    runtime.synchronize(lock, runtime.device());
  });
}

cudaError_t cudaDeviceReset() {
  return call(Needs::driver, [&](Runtime& runtime, Lock& lock) {
    Device& device = runtime.device();
    runtime.drive(lock, device);
    runtime.forget(device);
  });
}

cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value) {
  return call([&](Runtime& runtime, Lock&) { runtime.device().limits[limit] = value; });
}

cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
  return call([&](Runtime& runtime, Lock&) {
    const auto& limits = runtime.device().limits;
    const auto found = limits.find(limit);
    require(found != limits.end(), cudaErrorUnsupportedLimit, "a limit that was never set has no value here");
    *value = found->second;
  });
}

cudaError_t cudaDeviceGetCacheConfig(cudaFuncCache* config) {
  return call([&](Runtime&, Lock&) { *config = cudaFuncCachePreferNone; });
}
cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) {
  return call([&](Runtime&, Lock&) {});
}

// Declared in a header of their own, which not every toolkit brings.
#pragma GCC visibility push(default)
cudaError_t cudaProfilerStart() {
  return call([&](Runtime&, Lock&) {});
}
cudaError_t cudaProfilerStop() {
  return call([&](Runtime&, Lock&) {});
}

#pragma GCC visibility pop

}  // extern "C"
