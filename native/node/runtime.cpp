#include "runtime.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>

#include "../core/backends.h"
#include "../core/cores.h"
#include "kernels.h"
#include "values.h"

namespace foretoken::node {

// The arguments of one call. lib/ has checked types and ranges; what can be stale is checked here.
class Arguments {
 public:
  static constexpr size_t kMost = 4 + kMaxRank;  // one too many is noticed

  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    environment_ = static_cast<Environment*>(data);
    count_ = std::min(count_, kMost);
  }

  napi_env env() const { return env_; }
  Environment& environment() const { return *environment_; }
  napi_value operator[](size_t i) const { return values_[i]; }
  double number(size_t i, double otherwise = 0) const { return to_number(env_, values_[i], otherwise); }
  std::string text(size_t i) const { return to_text(env_, values_[i]); }

  // nullptr: a JavaScript error is pending.
  Device* device(size_t i, const char* op) const {
    Device* found = environment_->device(static_cast<uint32_t>(number(i, -1)));
    if (!found)
      environment_->raise({.code = "DISPOSED", .op = op, .argument = "device", .text = "the device was disposed"});
    return found;
  }
  uint32_t device_id(size_t i) const { return static_cast<uint32_t>(number(i)); }

  Tensor* tensor(size_t i, const char* op) const {
    Tensor* found = environment_->tensors().find(number(i));
    if (!found)
      environment_->raise({.code = "DISPOSED", .op = op, .argument = "tensor", .text = "the tensor was disposed"});
    return found;
  }

  // The numbers from argument `first` on are dimensions. nullopt: a JavaScript error is pending. Kernels multiply the
  // dimensions of the views they get without a check, in any order: so a 0 does not excuse the others.
  std::optional<View> shape(size_t first, DType dtype, const char* op) const {
    constexpr int64_t kMostElements = ((int64_t{1} << 53) - 1) / 8;
    View view;
    view.dtype = dtype;
    const size_t rank = count_ - first;
    int64_t elements = 1;
    bool fits = rank <= kMaxRank;
    for (size_t i = 0; fits && i < rank; i++) {
      const double dimension = number(first + i, -1);
      const bool whole =
          dimension >= 0 && dimension <= static_cast<double>(kMostElements) && dimension == std::trunc(dimension);
      view.shape[i] = whole ? static_cast<int64_t>(dimension) : 0;
      const bool overflows = __builtin_mul_overflow(elements, std::max<int64_t>(view.shape[i], 1), &elements);
      fits = whole && !overflows && elements <= kMostElements;
    }
    view.rank = static_cast<int8_t>(rank);
    if (fits) return view;
    environment_->raise({.code = "BAD_ARGUMENT",
                         .op = op,
                         .argument = "shape",
                         .wanted = "up to 4 whole numbers, 0 or more, with a product below 2^50"});
    return std::nullopt;
  }

 private:
  napi_env env_;
  Environment* environment_ = nullptr;
  napi_value values_[kMost];
  size_t count_ = kMost;
};

static int64_t byte_count(const View& view) { return element_count(view) * bytes_per_element(view.dtype); }

// ---- devices -------------------------------------------------------------------------------------------------------

// openDevice(kind, level?, memoryLimit?) → number
static napi_value open_device(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Failure failure;
  const Backend* backend = find_cpu_backend(given.text(1), failure);
  if (!backend) return given.environment().raise(failure);
  const auto limit = static_cast<int64_t>(given.number(2));
  return to_js(env, given.environment().open(*backend, given.text(0) == "dry", limit));
}

// closeDevice(device)
static napi_value close_device(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  if (given.device(0, "dispose")) given.environment().close(given.device_id(0));
  return nullptr;
}

// deviceInfo(device) → { kind, name, level, threads }
static napi_value device_info(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Device* device = given.device(0, "device");
  if (!device) return nullptr;
  napi_value result;
  napi_create_object(env, &result);
  set(env, result, "kind", std::string(device->dry() ? "dry" : device->backend().name));
  set(env, result, "name", processor_info().model);
  set(env, result, "level", std::string(device->backend().level));
  set(env, result, "threads", static_cast<double>(device->machine().threads));
  return result;
}

// machine() → { vendor, model, levels, unrecorded, defaultLevel, reason, threads }
static napi_value machine(napi_env env, napi_callback_info) {
  const ProcessorInfo processor = processor_info();
  napi_value result;
  napi_create_object(env, &result);
  set(env, result, "vendor", processor.vendor);
  set(env, result, "model", processor.model);
  set(env, result, "levels", processor.levels);
  set(env, result, "unrecorded", processor.unrecorded);
  set(env, result, "defaultLevel", processor.default_level);
  set(env, result, "reason", processor.reason);
  set(env, result, "threads", static_cast<double>(thread_count()));
  return result;
}

// memory(device) → [live, peak, requested, reserved, then live and peak of each tag]
static napi_value memory(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "memory");
  if (!device) return nullptr;
  const Ledger& ledger = device->allocator().ledger();
  std::vector<double> numbers;
  for (const int64_t bytes : {ledger.total.live, ledger.total.peak, ledger.requested, device->allocator().resident()})
    numbers.push_back(static_cast<double>(bytes));
  for (const Bytes& bytes : ledger.by_tag) {
    numbers.push_back(static_cast<double>(bytes.live));
    numbers.push_back(static_cast<double>(bytes.peak));
  }
  return to_js(env, numbers);
}

// resetPeak(device)
static napi_value reset_peak(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  if (Device* device = given.device(0, "resetPeak")) device->allocator().reset_peak();
  return nullptr;
}

// ---- tensors -------------------------------------------------------------------------------------------------------

static napi_value made(const Arguments& given, Handle handle, const Failure& failure) {
  return handle ? to_js(given.env(), static_cast<double>(handle)) : given.environment().raise(failure);
}

// allocate(device, dtype, tag, ...shape) → handle
static napi_value allocate(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  if (!given.device(0, "allocate")) return nullptr;
  const std::optional<View> view = given.shape(3, static_cast<DType>(given.number(1)), "allocate");
  if (!view) return nullptr;
  Failure failure;
  return made(given,
              given.environment().allocate(given.device_id(0), *view, byte_count(*view),
                                           static_cast<Tag>(given.number(2)), failure),
              failure);
}

// allocatePacked(device, dtype, tag, n, k) → handle
static napi_value allocate_packed(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "allocatePacked");
  if (!device) return nullptr;
  std::optional<View> view = given.shape(3, static_cast<DType>(given.number(1)), "allocatePacked");
  if (!view) return nullptr;
  view->layout = Layout::packed;
  const int64_t bytes = device->backend().packed_weight_bytes(view->dtype, view->shape[0], view->shape[1]);
  Failure failure;
  return made(
      given, given.environment().allocate(given.device_id(0), *view, bytes, static_cast<Tag>(given.number(2)), failure),
      failure);
}

static napi_value refuse(const Arguments& given, const char* op, const char* argument, std::string wanted,
                         std::string got) {
  return given.environment().raise(
      {.code = "BAD_ARGUMENT", .op = op, .argument = argument, .wanted = std::move(wanted), .got = std::move(got)});
}

// Whether `count` elements from `offset` on, a number from JavaScript, are among the view's.
static bool stays_within(const View& view, double offset, int64_t count) {
  return offset >= 0 && offset == std::trunc(offset) &&
         offset + static_cast<double>(count) <= static_cast<double>(element_count(view));
}

static napi_value refuse_range(const Arguments& given, const char* op, const char* argument, const View& view,
                               double offset, int64_t count) {
  char got[64];
  std::snprintf(got, sizeof got, "%lld from element %.17g", static_cast<long long>(count), offset);
  return refuse(given, op, argument, "to stay within " + std::to_string(element_count(view)) + " elements", got);
}

// view(handle, offset, ...shape) → handle
static napi_value view(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Tensor* of = given.tensor(0, "view");
  if (!of) return nullptr;
  if (of->view.layout != Layout::row_major)
    return refuse(given, "view", "tensor", "a row-major tensor", "a packed one");
  std::optional<View> shape = given.shape(2, of->view.dtype, "view");
  if (!shape) return nullptr;
  View& view = *shape;
  const double offset = given.number(1);
  if (!stays_within(of->view, offset, element_count(view)))
    return refuse_range(given, "view", "shape", of->view, offset, element_count(view));
  view.data = static_cast<std::byte*>(of->view.data) + static_cast<int64_t>(offset) * bytes_per_element(view.dtype);
  const Handle handle = given.environment().tensors().add(view, of->storage);
  return made(given, handle, {.code = "OUT_OF_MEMORY", .op = "view", .text = "too many tensors are alive"});
}

// free(handle)
static napi_value free_tensor(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Environment& environment = given.environment();
  Tensor* tensor = given.tensor(0, "dispose");
  if (!tensor) return nullptr;
  const StorageId storage = tensor->storage;
  environment.tensors().remove(*tensor);
  environment.release(storage);
  return nullptr;
}

// ---- to and from JavaScript ----------------------------------------------------------------------------------------

// Bytes copied at the call, on their way to a tensor. A recorded write stores them at each replay.
struct StagedWrite {
  std::unique_ptr<std::byte[]> bytes;
  int64_t count;
  void* to;
  std::atomic<int64_t>* staged;  // nullptr in a recording: the bytes stay there and wait in no queue

  StagedWrite(const void* from, int64_t size, void* target, std::atomic<int64_t>* counter)
      : bytes(new std::byte[static_cast<size_t>(size)]), count(size), to(target), staged(counter) {
    std::memcpy(bytes.get(), from, static_cast<size_t>(size));
    if (staged) *staged += count;
  }
  StagedWrite(StagedWrite&&) = default;
  ~StagedWrite() {
    if (bytes && staged) *staged -= count;
  }
  void operator()(Stream&) const { std::memcpy(to, bytes.get(), static_cast<size_t>(count)); }
};

static void write_bytes(Environment& environment, Device& device, void* to, const void* from, int64_t count) {
  constexpr int64_t kMostStaged = 4 << 20;  // beyond that the caller waits: staged bytes are not in the ledger
  Stream* stream = device.stream();
  if (!stream) return;
  if (device.recording()) return device.enqueue(StagedWrite(from, count, to, nullptr));
  if (!stream->idle() && environment.staged() + count > kMostStaged) stream->wait();
  if (stream->idle())
    std::memcpy(to, from, static_cast<size_t>(count));
  else
    device.enqueue(StagedWrite(from, count, to, &environment.staged()));
}

static const char* array_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "Float32Array";
    case DType::bf16: return "Uint16Array";
    case DType::f64: return "Float64Array";
    case DType::i32: return "Int32Array";
    case DType::u8: return "Uint8Array";
  }
  return "?";
}

static bool holds(napi_typedarray_type type, DType dtype) {
  switch (dtype) {
    case DType::f32: return type == napi_float32_array;
    case DType::bf16: return type == napi_uint16_array;
    case DType::f64: return type == napi_float64_array;
    case DType::i32: return type == napi_int32_array;
    case DType::u8: return type == napi_uint8_array;
  }
  return false;
}

// write(handle, typedArray, offset in elements)
static napi_value write(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Tensor* tensor = given.tensor(0, "write");
  if (!tensor) return nullptr;
  const View& view = tensor->view;
  if (view.layout != Layout::row_major) return refuse(given, "write", "tensor", "a row-major tensor", "a packed one");
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, given[1], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      !holds(type, view.dtype))
    return refuse(given, "write", "data", std::string("a ") + array_name(view.dtype), "another type");
  const double offset = given.number(2);
  const auto count = static_cast<int64_t>(length);
  if (!stays_within(view, offset, count)) return refuse_range(given, "write", "data", view, offset, count);
  if (length == 0) return nullptr;
  Environment& environment = given.environment();
  environment.keep_for_recording(tensor->storage);
  const int64_t element = bytes_per_element(view.dtype);
  write_bytes(environment, *environment.device(tensor->device),
              static_cast<std::byte*>(view.data) + static_cast<int64_t>(offset) * element, data, count * element);
  return nullptr;
}

// Settles a promise once all that was enqueued before has run, with a copy of a tensor's bytes if asked.
struct Await {
  Environment* environment;
  std::unique_ptr<Completion> completion;
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;

  Await(Environment& on, std::unique_ptr<Completion> what) : environment(&on), completion(std::move(what)) {}
  Await(Await&&) = default;
  ~Await() {
    if (!completion) return;
    completion->failure = {.code = "DISPOSED", .argument = "device", .text = "the device was disposed"};
    environment->post(std::move(completion));
  }
  void operator()(Stream& stream) {
    if (bytes) std::memcpy(to, from, bytes);
    completion->failure = stream.take_failure();
    environment->post(std::move(completion));
  }
};

static napi_value await(Environment& environment, Device& device, const char* op, napi_value buffer, void* to,
                        const View& from, size_t bytes) {
  if (device.recording())
    return environment.raise(
        {.code = "BAD_ARGUMENT", .op = op, .text = "nothing can be read while ops are recorded: they have not run"});
  auto [promise, completion] = environment.promise(buffer);
  if (device.dry()) {
    environment.settle(std::move(completion));
    return promise;
  }
  Await awaited(environment, std::move(completion));
  awaited.to = to;
  awaited.from = from.data;
  awaited.bytes = bytes;
  device.enqueue_now(std::move(awaited));
  return promise;
}

// read(handle) → Promise<ArrayBuffer>. The dry device reads zeros.
static napi_value read(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Tensor* tensor = given.tensor(0, "data");
  if (!tensor) return nullptr;
  const View& view = tensor->view;
  if (view.layout != Layout::row_major) return refuse(given, "data", "tensor", "a row-major tensor", "a packed one");
  const auto bytes = static_cast<size_t>(byte_count(view));
  void* to = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, bytes, &to, &buffer) != napi_ok) return nullptr;  // its error is pending
  Environment& environment = given.environment();
  return await(environment, *environment.device(tensor->device), "data", buffer, to, view, bytes);
}

// sync(device) → Promise<void>
static napi_value sync(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "sync");
  return device ? await(given.environment(), *device, "sync", nullptr, nullptr, {}, 0) : nullptr;
}

// ---- recordings ----------------------------------------------------------------------------------------------------

// beginRecord(device)
static napi_value begin_record(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "record");
  if (!device) return nullptr;
  if (device->recording())
    return given.environment().raise(
        {.code = "BAD_ARGUMENT", .op = "record", .argument = "fn", .text = "the device is recording already"});
  given.environment().begin_recording(given.device_id(0));
  return nullptr;
}

// endRecord(device) → number
static napi_value end_record(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "record");
  if (!device || !device->recording()) return nullptr;
  return to_js(env, given.environment().end_recording(given.device_id(0)));
}

// replay(device, recording)
static napi_value replay(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "replay");
  if (!device) return nullptr;
  // The recording made now could outlive this one, and then write to memory that is others'.
  if (device->recording())
    return given.environment().raise(
        {.code = "BAD_ARGUMENT", .op = "replay", .text = "nothing can be replayed while ops are recorded"});
  const auto recording = static_cast<uint32_t>(given.number(1));
  if (device->has_recording(recording)) device->replay(recording);
  return nullptr;
}

// freeRecording(device, recording)
static napi_value free_recording(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "dispose");
  const auto recording = static_cast<uint32_t>(given.number(1));
  if (device && device->has_recording(recording)) given.environment().free_recording(given.device_id(0), recording);
  return nullptr;
}

// ---- exports -------------------------------------------------------------------------------------------------------

static napi_value set_error_factory(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  given.environment().set_error_factory(given[0]);
  return nullptr;
}

static napi_value declarations_text(napi_env env, napi_callback_info) { return to_js(env, declarations()); }

void export_runtime(Environment& environment, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"setErrorFactory", set_error_factory},
                   {"declarations", declarations_text},
                   {"machine", machine},
                   {"openDevice", open_device},
                   {"closeDevice", close_device},
                   {"deviceInfo", device_info},
                   {"memory", memory},
                   {"resetPeak", reset_peak},
                   {"sync", sync},
                   {"allocate", allocate},
                   {"allocatePacked", allocate_packed},
                   {"view", view},
                   {"free", free_tensor},
                   {"write", write},
                   {"read", read},
                   {"beginRecord", begin_record},
                   {"endRecord", end_record},
                   {"replay", replay},
                   {"freeRecording", free_recording}};
  const napi_env env = environment.env();
  for (const auto& [name, callback] : functions) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &environment, &function);
    napi_set_named_property(env, exports, name, function);
  }
  std::vector<std::string> dtypes;
#define X(name, type, bytes) dtypes.push_back(#name);
  FORETOKEN_DTYPES(X)
#undef X
  set(env, exports, "dtypes", dtypes);
  set(env, exports, "tags", std::vector<std::string>(std::begin(kTagNames), std::end(kTagNames)));
}

}  // namespace foretoken::node
