// Recordings: ops that are kept to be run again and again.
#include <algorithm>

#include "call_arguments.h"
#include "runtime.h"

namespace foretoken::node {

// beginRecord(device)
static napi_value begin_record(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "record");
  if (!device) return nullptr;
  if (device->recording())
    return given.environment().raise(
        {.code = "BAD_ARGUMENT", .op = "record", .argument = "fn", .text = "the device is recording already"});
  Failure failure;
  given.environment().begin_recording(given.device_id(0), failure);
  return given.result(failure);
}

// endRecord(device) → number
static napi_value end_record(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "record");
  if (!device || !device->recording()) return nullptr;
  Failure failure;
  const uint32_t recording = given.environment().end_recording(given.device_id(0), failure);
  return given.result(failure, to_js(env, recording));
}

// abandonRecord(device)
static napi_value abandon_record(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "record");
  if (device && device->recording()) given.environment().abandon_recording(given.device_id(0));
  return nullptr;
}

// nullptr: a JavaScript error is pending.
static Device* device_that_replays(const Arguments& given, const char* op) {
  Device* device = given.device(0, op);
  if (!device || !device->recording()) return device;
  // The recording made now could outlive this one, and then write to memory that is others'.
  given.environment().raise(
      {.code = "BAD_ARGUMENT", .op = op, .text = "nothing can be replayed while ops are recorded"});
  return nullptr;
}

// replay(device, recording, times)
static napi_value replay(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = device_that_replays(given, "replay");
  if (!device) return nullptr;
  const auto recording = static_cast<uint32_t>(given.number(1));
  const auto times = static_cast<int64_t>(given.number(2));
  return device->has_recording(recording) ? given.result(device->replay(recording, times)) : nullptr;
}

// combine(device, choices, index, after) → number; choices and after as Uint32Arrays
static napi_value combine(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = device_that_replays(given, "combine");
  const Tensor* index = device ? given.tensor(2, "combine") : nullptr;
  if (!index) return nullptr;
  const auto ids = [&](size_t argument) {
    size_t count = 0;
    void* data = nullptr;
    napi_get_typedarray_info(env, given[argument], nullptr, &count, &data, nullptr, nullptr);
    return std::span(static_cast<const uint32_t*>(data), count);
  };
  const auto there = [&](uint32_t id) { return device->has_recording(id); };
  const auto choices = ids(1), after = ids(3);
  if (choices.empty() || !std::ranges::all_of(choices, there) || !std::ranges::all_of(after, there)) return nullptr;
  return to_js(env, device->combine(choices, static_cast<const int32_t*>(index->view.data), after));
}

// freeRecording(device, recording)
static napi_value free_recording(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "dispose");
  const auto recording = static_cast<uint32_t>(given.number(1));
  if (device && device->has_recording(recording)) given.environment().free_recording(given.device_id(0), recording);
  return nullptr;
}

std::span<const Function> recording_functions() {
  static constexpr Function functions[] = {{"beginRecord", begin_record},
                                           {"endRecord", end_record},
                                           {"abandonRecord", abandon_record},
                                           {"replay", replay},
                                           {"combine", combine},
                                           {"freeRecording", free_recording}};
  return functions;
}

}  // namespace foretoken::node
