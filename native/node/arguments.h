// From JavaScript values to a kernel's arguments, by type. No exceptions: this runs for every argument of every call.
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "environment.h"

namespace foretoken::node {

struct KernelNames {
  const char* name;
  const char* const* arguments;  // a trailing '?' marks one that may be absent
  int count;
};

static inline bool is_optional(const char* argument) { return argument[std::strlen(argument) - 1] == '?'; }

static inline std::string bare(const char* argument) {
  std::string name = argument;
  if (name.back() == '?') name.pop_back();
  return name;
}

// Reads the arguments of one call from left to right. What is common to all kernels is kept out of line: one copy of it
// rather than one per argument of every kernel. A `read` that returns false has set `failure`.
class ArgumentReader {
 public:
  ArgumentReader(Environment& environment, const KernelNames& names) : environment_(environment), names_(names) {}

  template <class T>
  bool read(napi_value value, T& argument) {
    const bool fine = convert(value, argument);
    index_++;
    return fine;
  }

  bool has_device() const { return found_device_; }
  uint32_t device() const { return device_; }
  bool has_f64() const { return has_f64_; }
  // Memory of lists; the call must hold it.
  std::vector<std::unique_ptr<std::byte[]>>& lists() { return lists_; }

  Failure failure;

 private:
  bool convert(napi_value value, In& view) { return convert_view(value, view, is_optional(argument())); }
  bool convert(napi_value value, Out& view) { return convert_view(value, view, is_optional(argument())); }
  bool convert(napi_value value, InOut& view) { return convert_view(value, view, is_optional(argument())); }

  [[gnu::noinline]] bool convert(napi_value value, double& number) {
    return napi_get_value_double(env(), value, &number) == napi_ok || refuse("a number");
  }
  [[gnu::noinline]] bool convert(napi_value value, int64_t& number) {
    return napi_get_value_int64(env(), value, &number) == napi_ok || refuse("a number");
  }
  [[gnu::noinline]] bool convert(napi_value value, bool& flag) {
    return napi_get_value_bool(env(), value, &flag) == napi_ok || refuse("true or false");
  }

  template <class Access>
  bool convert(napi_value value, List<Access>& list) {
    uint32_t count = 0;
    if (napi_get_array_length(env(), value, &count) != napi_ok) return refuse("an array of tensors");
    Access* items = new_list<Access>(count);
    for (uint32_t i = 0; i < count; i++) {
      napi_value item;
      if (napi_get_element(env(), value, i, &item) != napi_ok || !convert_view(item, items[i], true)) return false;
    }
    list = {items, count};
    return true;
  }

  bool convert(napi_value value, Floats& floats) {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    if (napi_get_typedarray_info(env(), value, &type, &length, &data, nullptr, nullptr) == napi_ok) {
      if (type != napi_float32_array) return refuse("a Float32Array or an array of numbers");
      float* items = new_list<float>(length);
      if (length) std::memcpy(items, data, length * sizeof(float));
      floats = {items, static_cast<int64_t>(length)};
      return true;
    }
    uint32_t count = 0;
    if (napi_get_array_length(env(), value, &count) != napi_ok) return refuse("a Float32Array or an array of numbers");
    float* items = new_list<float>(count);
    for (uint32_t i = 0; i < count; i++) {
      napi_value item;
      double number = 0;
      napi_get_element(env(), value, i, &item);
      if (!convert(item, number)) return false;
      items[i] = static_cast<float>(number);
    }
    floats = {items, count};
    return true;
  }

  [[gnu::noinline]] bool convert_view(napi_value value, View& view, bool optional) {
    double handle = 0;
    if (napi_get_value_double(env(), value, &handle) != napi_ok && !is_nothing(value)) return refuse("a tensor");
    if (handle == 0) {
      view = {};
      return optional || refuse("a tensor", "none");
    }
    const Tensor* tensor = environment_.tensors().find(handle);
    if (!tensor) return fail("DISPOSED", "the tensor was disposed");
    if (!found_device_) {
      found_device_ = true;
      device_ = tensor->device;
      recording_ = environment_.device(device_)->recording();
    } else if (tensor->device != device_) {
      return fail("WRONG_DEVICE", "the tensor is on another device than those before it");
    }
    if (recording_) environment_.keep_for_recording(tensor->storage);
    has_f64_ |= tensor->view.dtype == DType::f64;
    view = tensor->view;
    return true;
  }

  template <class Item>
  Item* new_list(size_t count) {
    lists_.emplace_back(new std::byte[count * sizeof(Item) + 1]);
    return new (lists_.back().get()) Item[count];
  }

  napi_env env() const { return environment_.env(); }
  const char* argument() const { return names_.arguments[index_]; }

  bool is_nothing(napi_value value) const {
    napi_valuetype type;
    napi_typeof(env(), value, &type);
    return type == napi_undefined || type == napi_null;
  }

  [[gnu::noinline]] bool fail(const char* code, const char* text) {
    failure.code = code;
    failure.op = names_.name;
    failure.argument = bare(argument());
    failure.text = text;
    return false;
  }

  bool refuse(const char* wanted, const char* got = "") {
    fail("BAD_ARGUMENT", "");
    failure.wanted = wanted;
    failure.got = got;
    return false;
  }

  Environment& environment_;
  const KernelNames& names_;
  int index_ = 0;
  bool found_device_ = false, recording_ = false, has_f64_ = false;
  uint32_t device_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> lists_;
};

}  // namespace foretoken::node
