// Tensors: making and freeing them, writing to them and reading them back.
#include <cstdio>

#include "call_arguments.h"
#include "runtime.h"

namespace foretoken::node {

static int64_t byte_count(const View& view) { return element_count(view) * bytes_per_element(view.dtype); }

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

// reinterpret(handle, dtype, ...shape) → handle
static napi_value reinterpret(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Tensor* of = given.tensor(0, "viewAs");
  if (!of) return nullptr;
  const std::optional<View> shape = given.shape(2, static_cast<DType>(given.number(1)), "viewAs");
  if (!shape) return nullptr;
  if (of->view.layout != Layout::row_major || byte_count(*shape) != byte_count(of->view))
    return refuse(given, "viewAs", "shape", "a row-major tensor of the same number of bytes",
                  std::to_string(byte_count(of->view)) + " and " + std::to_string(byte_count(*shape)) + " bytes");
  View view = *shape;
  view.data = of->view.data;
  const Handle handle = given.environment().tensors().add(view, of->storage);
  return made(given, handle, {.code = "OUT_OF_MEMORY", .op = "viewAs", .text = "too many tensors are alive"});
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
  Failure failure;
  environment.device(tensor->device)
      ->write(static_cast<std::byte*>(view.data) + static_cast<int64_t>(offset) * element, data, count * element,
              failure);
  return given.result(failure);
}

// A promise that settles once all that was enqueued before has run, with a copy of `bytes` if there are any.
static napi_value await(Environment& environment, Device& device, const char* op, napi_value buffer, void* to,
                        const void* from, int64_t bytes) {
  if (device.recording())
    return environment.raise(
        {.code = "BAD_ARGUMENT", .op = op, .text = "nothing can be read while ops are recorded: they have not run"});
  auto [promise, made] = environment.promise(buffer);
  if (device.dry()) {
    environment.settle(std::move(made));
    return promise;
  }
  device.read(to, from, bytes, [&environment, completion = made.release()](Failure failure) {
    completion->failure = std::move(failure);
    environment.post(std::unique_ptr<Completion>(completion));
  });
  return promise;
}

// read(handle) → Promise<ArrayBuffer>. The dry device reads zeros.
static napi_value read(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Tensor* tensor = given.tensor(0, "data");
  if (!tensor) return nullptr;
  const View& view = tensor->view;
  if (view.layout != Layout::row_major) return refuse(given, "data", "tensor", "a row-major tensor", "a packed one");
  const int64_t bytes = byte_count(view);
  void* to = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, static_cast<size_t>(bytes), &to, &buffer) != napi_ok)
    return nullptr;  // its error is pending
  Environment& environment = given.environment();
  return await(environment, *environment.device(tensor->device), "data", buffer, to, view.data, bytes);
}

// sync(device) → Promise<void>
static napi_value sync(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Device* device = given.device(0, "sync");
  return device ? await(given.environment(), *device, "sync", nullptr, nullptr, nullptr, 0) : nullptr;
}

std::span<const Function> tensor_functions() {
  static constexpr Function functions[] = {{"allocate", allocate}, {"allocatePacked", allocate_packed},
                                           {"view", view},         {"reinterpret", reinterpret},
                                           {"free", free_tensor},  {"write", write},
                                           {"read", read},         {"sync", sync}};
  return functions;
}

}  // namespace foretoken::node
