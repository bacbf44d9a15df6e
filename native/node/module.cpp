// The addon's entry: everything belongs to the environment that loads it, so workers never share state.
#include <node_api.h>

#include "kernels.h"
#include "runtime.h"

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  using foretoken::node::Environment;
  auto* environment = new Environment(env);
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  foretoken::node::export_runtime(*environment, exports);
  foretoken::node::export_kernels(*environment, exports);
  return exports;
}
