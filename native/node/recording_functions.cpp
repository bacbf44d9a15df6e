// Recordings: ops that are kept to be run again and again.
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
static Device* device_that_replays(const Arguments& given) {
  Device* device = given.device(0, "replay");
  if (!device || !device->recording()) return device;
  // The recording made now could outlive this one, and then write to memory that is others'.
  given.environment().raise(
      {.code = "BAD_ARGUMENT", .op = "replay", .text = "nothing can be replayed while ops are recorded"});
  return nullptr;
}

// replay(device, recording)
static napi_value replay(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = device_that_replays(given);
  if (!device) return nullptr;
  const auto recording = static_cast<uint32_t>(given.number(1));
  return device->has_recording(recording) ? given.result(device->replay(recording)) : nullptr;
}

// replayOneOf(device, recordings as a Uint32Array, index)
static napi_value replay_one_of(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = device_that_replays(given);
  const Tensor* index = device ? given.tensor(2, "replay") : nullptr;
  if (!index) return nullptr;
  size_t count = 0;
  void* data = nullptr;
  napi_get_typedarray_info(env, given[1], nullptr, &count, &data, nullptr, nullptr);
  const std::span ids(static_cast<const uint32_t*>(data), count);
  for (const uint32_t id : ids)
    if (!device->has_recording(id)) return nullptr;
  return count > 0 ? given.result(device->replay_one(ids, static_cast<const int32_t*>(index->view.data))) : nullptr;
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
  static constexpr Function functions[] = {{"beginRecord", begin_record},     {"endRecord", end_record},
                                           {"abandonRecord", abandon_record}, {"replay", replay},
                                           {"replayOneOf", replay_one_of},    {"freeRecording", free_recording}};
  return functions;
}

}  // namespace foretoken::node
