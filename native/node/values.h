// JavaScript values made and read, shortly.
#pragma once
#include <node_api.h>

#include <string>
#include <vector>

namespace foretoken::node {

static inline napi_value to_js(napi_env env, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  return value;
}

static inline napi_value to_js(napi_env env, bool flag) {
  napi_value value;
  napi_get_boolean(env, flag, &value);
  return value;
}
napi_value to_js(napi_env env, const char* text) = delete;  // would be a flag
static inline napi_value to_js(napi_env env, int number) { return to_js(env, static_cast<double>(number)); }
static inline napi_value to_js(napi_env env, uint32_t number) { return to_js(env, static_cast<double>(number)); }

static inline napi_value to_js(napi_env env, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}

template <class Item>
static napi_value to_js(napi_env env, const std::vector<Item>& items) {
  napi_value array;
  napi_create_array_with_length(env, items.size(), &array);
  for (uint32_t i = 0; i < items.size(); i++) napi_set_element(env, array, i, to_js(env, items[i]));
  return array;
}

template <class Value>
static void set(napi_env env, napi_value object, const char* name, const Value& value) {
  napi_set_named_property(env, object, name, to_js(env, value));
}

static inline double to_number(napi_env env, napi_value value, double otherwise) {
  double number = otherwise;
  napi_get_value_double(env, value, &number);
  return number;
}

// "" for anything but a string.
static inline std::string to_text(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return "";
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

}  // namespace foretoken::node
