// What JavaScript calls beside kernels: devices, tensors, recordings.
#pragma once
#include <span>

#include "environment.h"

namespace foretoken::node {

struct Function {
  const char* name;
  napi_callback callback;
};

std::span<const Function> device_functions();
std::span<const Function> tensor_functions();
std::span<const Function> recording_functions();

void export_runtime(Environment& environment, napi_value exports);

}  // namespace foretoken::node
