#include "environment.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace foretoken::node {

static napi_value string(napi_env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}

// Runs on the environment's thread for each posted completion; env is nullptr once the environment is going down.
static void on_completed(napi_env env, napi_value, void* context, void* data) {
  std::unique_ptr<Completion> completion(static_cast<Completion*>(data));
  if (!env) return;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  static_cast<Environment*>(context)->settle(std::move(completion));
  napi_close_handle_scope(env, scope);
}

Environment::Environment(napi_env env) : env_(env) {
  napi_create_threadsafe_function(env, nullptr, nullptr, string(env, "foretoken"), 0, 1, nullptr, nullptr, this,
                                  on_completed, &completed_);
  napi_unref_threadsafe_function(env, completed_);
  // Hooks run last first: streams are joined while the function they post to still exists.
  napi_add_env_cleanup_hook(env, [](void* self) { static_cast<Environment*>(self)->clean_up(); }, this);
}

Environment::~Environment() = default;

void Environment::clean_up() {
  const bool process_ends = syscall(SYS_gettid) == getpid();  // the main thread's environment goes with the process
  for (const auto& device : devices_)
    if (process_ends && device && device->gpu()) device->gpu()->abandon();
  devices_.clear();
}

// ---- devices -------------------------------------------------------------------------------------------------------

uint32_t Environment::open(std::unique_ptr<Device> device) {
  devices_.push_back(std::move(device));
  return static_cast<uint32_t>(devices_.size() - 1);
}

void Environment::close(uint32_t id) {
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    if (kept->first.first != id) {
      ++kept;
      continue;
    }
    for (const StorageId storage : kept->second)
      if (--tensors_.storage(storage).references == 0) tensors_.forget_storage(storage);
    kept = kept_.erase(kept);
  }
  recording_.erase(id);
  tensors_.remove_all(id);
  devices_[id] = nullptr;
}

// ---- tensors -------------------------------------------------------------------------------------------------------

Handle Environment::allocate(uint32_t device_id, const View& like, int64_t bytes, Tag tag, Failure& failure) {
  Device& on = *device(device_id);
  if (Gpu* gpu = on.gpu()) failure = gpu->enter("allocate");
  if (failure) return 0;
  Allocator& allocator = on.allocator();
  const auto block = allocator.allocate(bytes, tag, failure);
  if (!block) return 0;
  const auto recording = recording_.find(device_id);
  const StorageId storage = tensors_.add_storage({.block = *block,
                                                  .device = device_id,
                                                  .references = 0,
                                                  .recording = recording == recording_.end() ? 0 : recording->second});
  View view = like;
  view.data = block->data;
  const Handle handle = tensors_.add(view, storage);
  if (handle) return handle;
  allocator.free(*block);
  tensors_.forget_storage(storage);
  failure.code = "OUT_OF_MEMORY";
  failure.op = "allocate";
  failure.text = "too many tensors are alive";
  return 0;
}

void Environment::release(StorageId id) {
  Storage& storage = tensors_.storage(id);
  if (--storage.references > 0) return;
  device(storage.device)->allocator().free(storage.block);
  tensors_.forget_storage(id);
}

void Environment::keep_for_recording(StorageId id) {
  Storage& storage = tensors_.storage(id);
  const auto recording = recording_.find(storage.device);
  if (recording == recording_.end() || storage.recording == recording->second) return;
  if (kept_[*recording].insert(id).second) storage.references++;
}

// ---- recordings ----------------------------------------------------------------------------------------------------

void Environment::begin_recording(uint32_t id, Failure& failure) {
  const uint32_t recording = device(id)->begin_recording(&failure);
  if (!failure) recording_[id] = recording;
}

uint32_t Environment::end_recording(uint32_t id, Failure& failure) {
  recording_.erase(id);
  const uint32_t recording = device(id)->end_recording(&failure);
  if (failure) free_recording(id, recording);
  return recording;
}

void Environment::abandon_recording(uint32_t id) {
  recording_.erase(id);
  free_recording(id, device(id)->abandon_recording());
}

void Environment::free_recording(uint32_t device_id, uint32_t recording) {
  device(device_id)->free_recording(recording);
  const auto kept = kept_.find({device_id, recording});
  if (kept == kept_.end()) return;
  for (const StorageId storage : kept->second) release(storage);
  kept_.erase(kept);
}

// ---- promises ------------------------------------------------------------------------------------------------------

std::pair<napi_value, std::unique_ptr<Completion>> Environment::promise(napi_value buffer) {
  auto completion = std::make_unique<Completion>();
  napi_value made = nullptr;
  napi_create_promise(env_, &completion->deferred, &made);
  if (buffer) napi_create_reference(env_, buffer, 1, &completion->buffer);
  // The event loop stays alive while a promise is pending, and only then.
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, completed_);
  return {made, std::move(completion)};
}

void Environment::post(std::unique_ptr<Completion> completion) {
  if (napi_call_threadsafe_function(completed_, completion.get(), napi_tsfn_nonblocking) == napi_ok)
    completion.release();
}

void Environment::settle(std::unique_ptr<Completion> completion) {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, completed_);
  napi_value result = nullptr;
  if (completion->buffer) {
    napi_get_reference_value(env_, completion->buffer, &result);
    napi_delete_reference(env_, completion->buffer);
  } else {
    napi_get_undefined(env_, &result);
  }
  if (completion->failure)
    napi_reject_deferred(env_, completion->deferred, error(completion->failure));
  else
    napi_resolve_deferred(env_, completion->deferred, result);
}

// ---- errors --------------------------------------------------------------------------------------------------------

void Environment::set_error_factory(napi_value factory) {
  if (error_factory_) napi_delete_reference(env_, error_factory_);
  napi_create_reference(env_, factory, 1, &error_factory_);
}

napi_value Environment::error(const Failure& failure) {
  napi_value made = nullptr;
  if (error_factory_) {
    napi_value factory, receiver;
    napi_get_reference_value(env_, error_factory_, &factory);
    napi_get_undefined(env_, &receiver);
    const napi_value parts[] = {string(env_, failure.code),     string(env_, failure.op),
                                string(env_, failure.argument), string(env_, failure.text),
                                string(env_, failure.wanted),   string(env_, failure.got),
                                string(env_, failure.remedy)};
    napi_call_function(env_, receiver, factory, std::size(parts), parts, &made);
  } else {
    napi_create_error(env_, string(env_, failure.code), string(env_, failure.text), &made);
  }
  return made;
}

napi_value Environment::raise(const Failure& failure) {
  napi_throw(env_, error(failure));
  return nullptr;
}

}  // namespace foretoken::node
