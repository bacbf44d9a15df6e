#include "runtime.h"

#include "call_arguments.h"
#include "kernels.h"

namespace foretoken::node {

static napi_value set_error_factory(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  given.environment().set_error_factory(given[0]);
  return nullptr;
}

static napi_value declarations_text(napi_env env, napi_callback_info) { return to_js(env, declarations()); }

void export_runtime(Environment& environment, napi_value exports) {
  const napi_env env = environment.env();
  const auto add = [&](const Function& function) {
    napi_value value;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, &environment, &value);
    napi_set_named_property(env, exports, function.name, value);
  };
  add({"setErrorFactory", set_error_factory});
  add({"declarations", declarations_text});
  for (const auto& functions : {device_functions(), tensor_functions(), recording_functions()})
    for (const Function& function : functions) add(function);

  std::vector<std::string> dtypes;
#define X(name, type, bytes) dtypes.push_back(#name);
  FORETOKEN_DTYPES(X)
#undef X
  set(env, exports, "dtypes", dtypes);
  set(env, exports, "tags", std::vector<std::string>(std::begin(kTagNames), std::end(kTagNames)));
}

}  // namespace foretoken::node
