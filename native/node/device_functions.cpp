// Devices: opening, closing, and what is known of them.
#include "../core/backends.h"
#include "../core/cores.h"
#include "../core/env.h"
#include "call_arguments.h"
#include "runtime.h"

namespace foretoken::node {

static bool is_gpu_level(const std::string& level) { return level.starts_with("sm_"); }

static std::unique_ptr<Device> open_dry(const std::string& level, int64_t limit, int multiprocessors,
                                        Failure& failure) {
  const bool gpu = is_gpu_level(level);
  const Backend* backend = gpu ? find_cuda_backend(level, failure) : find_cpu_backend(level, failure);
  if (!backend) return nullptr;
  if (gpu && multiprocessors <= 0) multiprocessors = usual_multiprocessors(level);
  return std::make_unique<Device>(*backend, true, limit, gpu ? multiprocessors : 0);
}

static std::unique_ptr<Device> open_cpu(const std::string& level, int64_t limit, Failure& failure) {
  const Backend* backend = find_cpu_backend(level, failure);
  return backend ? std::make_unique<Device>(*backend, false, limit) : nullptr;
}

static std::unique_ptr<Device> open_cuda(int index, int64_t limit, Failure& failure) {
  std::unique_ptr<Gpu> gpu = open_gpu(index, env::sync(), failure);
  const Backend* backend = gpu ? find_cuda_backend(gpu->info().level, failure) : nullptr;
  return backend ? std::make_unique<Device>(*backend, std::move(gpu), limit) : nullptr;
}

// openDevice("cpu", level?, memoryLimit?), openDevice("cuda", index?, memoryLimit?),
// openDevice("dry", level?, memoryLimit?, multiprocessors?) → number
static napi_value open_device(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const std::string kind = given.text(0);
  const auto limit = static_cast<int64_t>(given.number(2));
  Failure failure;
  std::unique_ptr<Device> device;
  if (kind == "cuda")
    device = open_cuda(static_cast<int>(given.number(1)), limit, failure);
  else if (kind == "dry")
    device = open_dry(given.text(1), limit, static_cast<int>(given.number(3)), failure);
  else
    device = open_cpu(given.text(1), limit, failure);
  return device ? to_js(env, given.environment().open(std::move(device))) : given.environment().raise(failure);
}

// closeDevice(device)
static napi_value close_device(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  if (given.device(0, "dispose")) given.environment().close(given.device_id(0));
  return nullptr;
}

static std::string name_of(const Device& device) {
  if (device.gpu()) return device.gpu()->info().name;
  if (is_gpu_level(device.backend().level)) return std::string("a GPU with kernels for ") + device.backend().level;
  return processor_info().model;
}

// deviceInfo(device) → { kind, name, level, threads, multiprocessors, index }
static napi_value device_info(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  const Device* device = given.device(0, "device");
  if (!device) return nullptr;
  napi_value result;
  napi_create_object(env, &result);
  set(env, result, "kind", std::string(device->dry() ? "dry" : device->backend().name));
  set(env, result, "name", name_of(*device));
  set(env, result, "level", std::string(device->backend().level));
  set(env, result, "threads", device->machine().threads);
  set(env, result, "multiprocessors", device->machine().multiprocessors);
  set(env, result, "index", device->gpu() ? device->gpu()->info().index : 0);
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

static napi_value describe(napi_env env, const GpuInfo& gpu) {
  napi_value result;
  napi_create_object(env, &result);
  set(env, result, "index", gpu.index);
  set(env, result, "name", gpu.name);
  set(env, result, "capability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
  set(env, result, "multiprocessors", gpu.multiprocessors);
  set(env, result, "memory", static_cast<double>(gpu.memory));
  set(env, result, "level", gpu.level);
  return result;
}

// gpus() → { built, driver, runtime, gpus, problem, remedy, expected }
static napi_value gpus(napi_env env, napi_callback_info) {
  const GpuReport report = find_gpus();
  napi_value result, list;
  napi_create_object(env, &result);
  napi_create_array(env, &list);
  for (uint32_t i = 0; i < report.gpus.size(); i++) napi_set_element(env, list, i, describe(env, report.gpus[i]));
  napi_set_named_property(env, result, "gpus", list);
  set(env, result, "built", report.built);
  set(env, result, "driver", report.driver);
  set(env, result, "runtime", report.runtime);
  set(env, result, "problem", report.failure.text);
  set(env, result, "remedy", report.failure.remedy);
  set(env, result, "expected", report.expected);
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

std::span<const Function> device_functions() {
  static constexpr Function functions[] = {
      {"machine", machine},        {"gpus", gpus},     {"openDevice", open_device}, {"closeDevice", close_device},
      {"deviceInfo", device_info}, {"memory", memory}, {"resetPeak", reset_peak}};
  return functions;
}

}  // namespace foretoken::node
