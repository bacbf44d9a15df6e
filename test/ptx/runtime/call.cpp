// How every function of the API goes in and out.
#include "runtime.h"

namespace foretoken::ptx::runtime {
namespace {

// Anything before CUDA 13.0 cannot serve this runtime.
constexpr int kOldestDriver = 13000;

cudaError_t fail(cudaError_t code, const std::string& why) {
  thread_state().last_error = code;
  thread_state().last_message = why;
  return code;
}

void require_driver(const Runtime& runtime) {
  const int version = runtime.settings.driver_version;
  if (version >= kOldestDriver) return;
  throw Error(cudaErrorInsufficientDriver, version ? "the driver is too old: " + std::to_string(version) : "no driver");
}

}  // namespace

// Never destroyed: destructors of static objects still call the runtime when those of the thread have run.
ThreadState& thread_state() {
  static thread_local ThreadState* state = new ThreadState;
  return *state;
}

cudaError_t call(Needs needs, const std::function<void(Runtime&, Lock&)>& body) {
  if (thread_state().in_host_function)
    return fail(cudaErrorNotPermitted, "a host function or callback called the runtime");
  try {
    Runtime& runtime = Runtime::instance();
    Lock lock(runtime.mutex);
    if (needs != Needs::nothing) require_driver(runtime);
    if (needs == Needs::device) {
      require(!runtime.devices.empty(), cudaErrorNoDevice, "no device");
      Runtime::check(runtime.device());
    }
    body(runtime, lock);
    return cudaSuccess;
  } catch (const Error& error) {
    return fail(error.code, error.what());
  } catch (const std::exception& error) {
    return fail(cudaErrorUnknown, error.what());
  }
}

}  // namespace foretoken::ptx::runtime
