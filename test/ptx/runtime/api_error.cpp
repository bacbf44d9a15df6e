// Errors, versions, and the hooks of tests.
#include <cstring>

#include "runtime.h"

using namespace foretoken::ptx::runtime;

namespace {

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
#define X(name, text) {name, #name, text},
#include "errors.inc"
#undef X
};

const ErrorText* find_error(cudaError_t code) {
  for (const ErrorText& error : kErrors)
    if (error.code == code) return &error;
  return nullptr;
}

// A lost device's error stays; any other is handed out once.
cudaError_t last_error(bool keep) {
  ThreadState& state = thread_state();
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  const size_t ordinal = static_cast<size_t>(state.device);
  if (ordinal < runtime.devices.size() && runtime.devices[ordinal]->lost) {
    // Only once the program has been told: what is still to be found out by a call is not known here.
    if (state.last_error == runtime.devices[ordinal]->lost->code) return state.last_error;
  }
  const cudaError_t code = state.last_error;
  if (!keep) state.last_error = cudaSuccess;
  return code;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return last_error(false); }
cudaError_t cudaPeekAtLastError() { return last_error(true); }

const char* cudaGetErrorName(cudaError_t code) {
  const ErrorText* error = find_error(code);
  return error ? error->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t code) {
  const ErrorText* error = find_error(code);
  return error ? error->text : "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int* version) {
  return call(Needs::nothing, [&](Runtime& runtime, Lock&) {
    require(version != nullptr, cudaErrorInvalidValue, "no place for the version");
    *version = runtime.settings.driver_version;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return call(Needs::nothing, [&](Runtime&, Lock&) {
    require(version != nullptr, cudaErrorInvalidValue, "no place for the version");
    *version = CUDART_VERSION;
  });
}

void ptx_counters(PtxCounters* counters) {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  *counters = runtime.counters;
}

void ptx_reset_counters() {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  runtime.counters = {};
}

void ptx_memory(int device, PtxMemory* memory) {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  const DeviceMemory& owned = *runtime.devices.at(static_cast<size_t>(device))->memory;
  *memory = {owned.used(), owned.peak(), owned.reserved(), owned.limit(), owned.count()};
}

void ptx_reset_peak(int device) {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  runtime.devices.at(static_cast<size_t>(device))->memory->reset_peak();
}

void ptx_forbid(const void* begin, size_t bytes) {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  const auto address = reinterpret_cast<uint64_t>(begin);
  for (const auto& device : runtime.devices)
    if (device->memory->owns(address)) device->memory->forbid(address, bytes);
}

const char* ptx_last_message() { return thread_state().last_message.c_str(); }

size_t ptx_launches(int device, PtxLaunch* launches, size_t capacity) {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  const auto& records = runtime.devices.at(static_cast<size_t>(device))->launches;
  const auto dimensions = [](uint32_t* to, const Dimensions& from) {
    to[0] = from.x;
    to[1] = from.y;
    to[2] = from.z;
  };
  for (size_t i = 0; i < records.size() && i < capacity; i++) {
    launches[i].kernel = records[i].kernel.c_str();
    launches[i].dynamic_shared_bytes = records[i].dynamic_shared_bytes;
    dimensions(launches[i].grid, records[i].grid);
    dimensions(launches[i].block, records[i].block);
    dimensions(launches[i].cluster, records[i].cluster);
  }
  return records.size();
}

size_t ptx_pending() {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  size_t pending = 0;
  const auto add = [&](Stream& stream) {
    for (const auto& operation : stream.pending) pending += operation->state != Operation::State::done;
  };
  for (const auto& device : runtime.devices) {
    add(*device->legacy_stream);
    for (const auto& stream : device->streams) add(*stream);
  }
  return pending;
}

void ptx_reset() {
  Runtime& runtime = Runtime::instance();
  Lock lock(runtime.mutex);
  runtime.reset(lock);
  thread_state() = {};
}

}  // extern "C"
