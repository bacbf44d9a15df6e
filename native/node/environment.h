// What one JavaScript environment (the main thread, or a worker) holds: devices, tensors and pending promises.
#pragma once
#include <node_api.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../core/device.h"
#include "tensors.h"

namespace foretoken::node {

// A promise that a stream will settle. Made and settled on the environment's thread.
struct Completion {
  napi_deferred deferred = nullptr;
  napi_ref buffer = nullptr;  // the ArrayBuffer to resolve with; nullptr: undefined
  Failure failure;
};

class Environment {
 public:
  explicit Environment(napi_env env);
  ~Environment();
  Environment(const Environment&) = delete;

  napi_env env() const { return env_; }
  Tensors& tensors() { return tensors_; }

  // ---- devices. A number that names none throws in JavaScript and gives nullptr.
  uint32_t open(std::unique_ptr<Device> device);
  Device* device(uint32_t id) { return id < devices_.size() ? devices_[id].get() : nullptr; }
  void close(uint32_t id);

  // ---- tensors
  // 0 sets the failure.
  Handle allocate(uint32_t device, const View& like, int64_t bytes, Tag tag, Failure& failure);
  void release(StorageId storage);
  // While its device records, a recording keeps what its ops use from being freed before it.
  void keep_for_recording(StorageId storage);

  // ---- recordings
  // Those that set the failure leave nothing recording.
  void begin_recording(uint32_t device, Failure& failure);
  uint32_t end_recording(uint32_t device, Failure& failure);
  // Ends it and frees what was recorded.
  void abandon_recording(uint32_t device);
  void free_recording(uint32_t device, uint32_t recording);

  // ---- promises
  // Makes a promise whose completion the stream posts; `buffer` may be nullptr.
  std::pair<napi_value, std::unique_ptr<Completion>> promise(napi_value buffer);
  // From any thread.
  void post(std::unique_ptr<Completion> completion);
  // On the environment's thread.
  void settle(std::unique_ptr<Completion> completion);

  // ---- errors
  void set_error_factory(napi_value factory);
  napi_value error(const Failure& failure);
  // Always nullptr, so that a callback can return it.
  napi_value raise(const Failure& failure);

 private:
  void clean_up();

  napi_env env_;
  std::vector<std::unique_ptr<Device>> devices_;
  Tensors tensors_;
  std::map<uint32_t, uint32_t> recording_;  // device → what it records now
  std::map<std::pair<uint32_t, uint32_t>, std::set<StorageId>> kept_;
  napi_threadsafe_function completed_ = nullptr;
  int64_t pending_ = 0;
  napi_ref error_factory_ = nullptr;
};

}  // namespace foretoken::node
