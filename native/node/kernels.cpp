// The binding of every kernel: one template over the contract's list of slots.
#include "kernels.h"

#include <optional>
#include <tuple>

#include "arguments.h"

namespace foretoken::node {

// A kernel with its arguments, as it waits in the stream.
template <class... Args>
struct KernelCall {
  void (*kernel)(const Call&, Args...);
  Call call;
  std::tuple<Args...> arguments;
  std::vector<std::unique_ptr<std::byte[]>> lists;  // what the list arguments point to

  void operator()() const {
    std::apply([this](const Args&... given) { kernel(call, given...); }, arguments);
  }
  void operator()(Stream&) const { (*this)(); }

  // The packed weight that it reads, if any.
  View weight() const {
    View found;
    const auto look = [&](const auto& argument) {
      if constexpr (std::is_same_v<std::decay_t<decltype(argument)>, In>)
        if (argument.layout == Layout::packed) found = argument;
    };
    std::apply([&](const Args&... given) { (look(given), ...); }, arguments);
    return found;
  }
};

struct Export {
  Environment* environment;
  const KernelNames* names;
};

// ---- what all kernels share ----------------------------------------------------------------------------------------

// nullptr sets the failure.
[[gnu::noinline]] static Device* device_of(Environment& environment, const KernelNames& names, ArgumentReader& reader) {
  if (reader.has_device()) return environment.device(reader.device());
  reader.failure = {.code = "BAD_ARGUMENT", .op = names.name, .text = "no tensor was given"};
  return nullptr;
}

[[gnu::noinline]] static void no_kernel(const KernelNames& names, const Device& device, ArgumentReader& reader) {
  const Backend& backend = device.backend();
  reader.failure = {.code = "NO_KERNEL",
                    .op = names.name,
                    .text = std::string("the device ") + backend.name + " (" + backend.level + ") has no such kernel" +
                            (reader.has_f64() ? " for f64" : "")};
}

// Nothing for 0 bytes; a failure is set when there is no memory.
[[gnu::noinline]] static std::optional<Allocator::Block> allocate_workspace(const KernelNames& names, Device& device,
                                                                            size_t bytes, Failure& failure,
                                                                            Call& call) {
  std::optional<Allocator::Block> workspace;
  if (bytes) workspace = device.allocator().allocate(static_cast<int64_t>(bytes), Tag::workspace, failure);
  if (failure) failure.op = names.name;
  call = {.parallel = device.parallel(),
          .stream = device.gpu() ? device.gpu()->stream() : nullptr,
          .machine = &device.machine(),
          .workspace = workspace ? workspace->data : nullptr,
          .workspace_bytes = bytes};
  return workspace;
}

// A GPU is asked before it is given work; the other devices need not be.
static bool ready(const KernelNames& names, Device& device, Failure& failure) {
  if (Gpu* gpu = device.gpu()) failure = gpu->enter(names.name);
  return !failure;
}

// The workspace is free for what is enqueued after this call.
[[gnu::noinline]] static void finish(const KernelNames& names, Device& device,
                                     const std::optional<Allocator::Block>& workspace, Failure& failure) {
  if (Gpu* gpu = device.gpu()) failure = gpu->launched(names.name);
  if (workspace) device.allocator().free(*workspace);
  if (device.synchronous() && device.stream()) failure = device.stream()->take_failure();
}

// ---- one kernel ----------------------------------------------------------------------------------------------------

template <auto Member>
struct Binding;

template <class... Args, Slot<Args...> Kernels::* Member>
struct Binding<Member> {
  // The callback behind `native().name(…)`.
  static napi_value call(napi_env env, napi_callback_info info) {
    constexpr size_t kCount = sizeof...(Args);
    napi_value values[kCount];
    size_t count = kCount;
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, values, nullptr, &data);
    const Export& self = *static_cast<const Export*>(data);
    ArgumentReader reader(*self.environment, *self.names);
    KernelCall<Args...> call{};
    if (read(reader, values, call.arguments, std::index_sequence_for<Args...>{}))
      enqueue(*self.environment, *self.names, reader, call);
    if (reader.failure) self.environment->raise(reader.failure);
    return nullptr;
  }

  template <size_t... I>
  static bool read(ArgumentReader& reader, const napi_value* values, std::tuple<Args...>& arguments,
                   std::index_sequence<I...>) {
    return (reader.read(values[I], std::get<I>(arguments)) && ...);
  }

  static void enqueue(Environment& environment, const KernelNames& names, ArgumentReader& reader,
                      KernelCall<Args...>& call) {
    Device* device = device_of(environment, names, reader);
    if (!device) return;
    const Kernels* kernels = reader.has_f64() ? device->backend().oracle : device->backend().kernels;
    if (!kernels || !(kernels->*Member).run) return no_kernel(names, *device, reader);
    if (!ready(names, *device, reader.failure)) return;
    const Slot<Args...>& slot = kernels->*Member;
    size_t bytes = 0;
    if (slot.workspace)
      bytes =
          std::apply([&](const Args&... given) { return slot.workspace(device->machine(), given...); }, call.arguments);
    const auto workspace = allocate_workspace(names, *device, bytes, reader.failure, call.call);
    if (reader.failure) return;
    call.kernel = slot.run;
    call.lists = std::move(reader.lists());
    if (device->gpu())
      call();
    else
      device->enqueue(std::move(call));
    finish(names, *device, workspace, reader.failure);
  }
};

// ---- the list ------------------------------------------------------------------------------------------------------

#define X(name, ...)                                               \
  static constexpr const char* name##_arguments[] = {__VA_ARGS__}; \
  static constexpr KernelNames name##_names{#name, name##_arguments, std::size(name##_arguments)};
FORETOKEN_KERNELS(X)
#undef X

static std::string camel_case(const std::string& name) {
  std::string camel;
  for (size_t i = 0; i < name.size(); i++) {
    if (name[i] == '_')
      camel += static_cast<char>(name[++i] - 'a' + 'A');
    else
      camel += name[i];
  }
  return camel;
}

[[gnu::cold]] void export_kernels(Environment& environment, napi_value exports) {
  const auto add = [&](const KernelNames& names, napi_callback callback) {
    // Lives as long as the process: functions may be called until their environment is gone.
    auto* self = new Export{&environment, &names};
    napi_value function;
    const std::string name = camel_case(names.name);
    napi_create_function(environment.env(), name.c_str(), name.size(), callback, self, &function);
    napi_set_named_property(environment.env(), exports, name.c_str(), function);
    napi_add_finalizer(
        environment.env(), function, self, [](napi_env, void* data, void*) { delete static_cast<Export*>(data); },
        nullptr, nullptr);
  };
#define X(name, ...) add(name##_names, Binding<&Kernels::name>::call);
  FORETOKEN_KERNELS(X)
#undef X
}

// ---- declarations --------------------------------------------------------------------------------------------------

template <class T>
static std::string type_of(bool optional);
template <>
std::string type_of<View>(bool optional) {
  return optional ? "OptionalHandle" : "Handle";
}
template <>
std::string type_of<double>(bool) {
  return "number";
}
template <>
std::string type_of<int64_t>(bool) {
  return "number";
}
template <>
std::string type_of<bool>(bool) {
  return "boolean";
}
template <>
std::string type_of<InList>(bool) {
  return "readonly OptionalHandle[]";
}
template <>
std::string type_of<InOutList>(bool) {
  return "readonly OptionalHandle[]";
}
template <>
std::string type_of<Floats>(bool) {
  return "Float32Array | readonly number[]";
}

template <class T>
using Declared = std::conditional_t<std::is_base_of_v<View, T>, View, T>;

template <class... Args>
[[gnu::cold]] static std::string declaration(const KernelNames& names, Slot<Args...> Kernels::*) {
  constexpr size_t kWidth = 120;
  static_assert(sizeof...(Args) > 0);
  int index = 0;
  std::vector<std::string> parameters;
  const auto add = [&](const char* argument, const std::string& type) {
    parameters.push_back(bare(argument) + ": " + type);
  };
  ((add(names.arguments[index], type_of<Declared<Args>>(is_optional(names.arguments[index]))), index++), ...);
  std::string line, lines;
  for (const std::string& parameter : parameters) {
    line += (line.empty() ? "" : ", ") + parameter;
    lines += "    " + parameter + ",\n";
  }
  const std::string name = camel_case(names.name), short_form = "  " + name + "(" + line + "): void;\n";
  return short_form.size() <= kWidth + 1 ? short_form : "  " + name + "(\n" + lines + "  ): void;\n";
}

[[gnu::cold]] std::string declarations() {
  std::string text =
      "// Written by native/node/generate.mjs from native/kernels.h, which says what each kernel does. Do not edit.\n\n"
      "/** A tensor's number on the native side. */\n"
      "export type Handle = number;\n"
      "export type OptionalHandle = Handle | null | undefined;\n\n"
      "export interface Kernels {\n";
#define X(name, ...) text += declaration(name##_names, &Kernels::name);
  FORETOKEN_KERNELS(X)
#undef X
  return text + "}\n";
}

// An argument list and its names are written apart: they must be equally long.
template <class... Args>
static constexpr bool complete(const KernelNames& names, Slot<Args...> Kernels::*) {
  return names.count == sizeof...(Args);
}
#define X(name, ...) static_assert(complete(name##_names, &Kernels::name), #name ": an argument name per argument");
FORETOKEN_KERNELS(X)
#undef X

}  // namespace foretoken::node
