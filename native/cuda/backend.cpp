// Finding GPUs, and saying in plain words why none can be used.
#include "backend.h"

#include <cuda_runtime.h>

#include <map>
#include <optional>
#include <vector>

#include "../core/backends.h"
#include "../core/env.h"
#include "device.h"
#include "errors.h"
#include "table.h"

namespace foretoken::cuda {

constexpr int kOldestMajor = 8;

std::string level_for(int major, int minor) {
  if (major < kOldestMajor) return "";
  return major == 9 && minor == 0 ? "sm_90" : "sm_80";
}

static std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

static Failure no_device(std::string text, std::string remedy) {
  return {.code = "NO_DEVICE", .op = "openDevice", .text = std::move(text), .remedy = std::move(remedy)};
}

static Failure no_driver() {
  return no_device("there is no NVIDIA driver here",
                   "Install NVIDIA's driver, 580 or later; in a container, give it the GPUs (docker run --gpus all).");
}

static Failure old_driver(const GpuReport& report) {
  return no_device("the NVIDIA driver is too old: it knows CUDA " + version_text(report.driver) + ", and " +
                       version_text(report.runtime) + " is needed",
                   "Install driver 580 or later.");
}

static Failure no_gpu() {
  const std::optional<std::string> visible = env::visible_gpus();
  if (!visible) return no_device("there is a driver, but no NVIDIA GPU", "Is one in this machine, and in nvidia-smi?");
  return no_device("CUDA_VISIBLE_DEVICES is \"" + *visible + "\" and hides every GPU",
                   "Unset it, or set it to the number of a GPU, 0 for the first.");
}

static Failure old_gpus(const std::vector<GpuInfo>& gpus) {
  std::string list;
  for (const GpuInfo& gpu : gpus)
    list +=
        (list.empty() ? "" : ", ") + gpu.name + " has " + std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
  return no_device("compute capability 8.0 or later is needed, and " + list,
                   "Use a GPU of the Ampere generation (2020) or later.");
}

// Attributes, and not a context: this must not take memory on a GPU that may never be used.
static cudaError_t describe(int index, GpuInfo& info) {
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index)) return error;
  info.index = index;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.memory = static_cast<int64_t>(properties.totalGlobalMem);
  info.level = level_for(info.major, info.minor);
  return cudaSuccess;
}

static void look(GpuReport& report) {
  cudaRuntimeGetVersion(&report.runtime);
  if (cudaDriverGetVersion(&report.driver) != cudaSuccess) report.driver = 0;
  if (report.driver == 0) {
    report.failure = no_driver();
    return;
  }
  report.expected = !env::visible_gpus();  // who sets it chose what is visible
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (!error) report.gpus.resize(static_cast<size_t>(count));
  for (int i = 0; i < count && !error; i++) error = describe(i, report.gpus[static_cast<size_t>(i)]);
  if (error == cudaErrorInsufficientDriver) {
    report.failure = old_driver(report);
    report.expected = true;
  } else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    report.failure = no_gpu();
  } else if (error != cudaSuccess) {
    report.gpus.clear();
    report.failure = no_device("CUDA cannot be used: " + error_text(error), "Does nvidia-smi work?");
    report.expected = true;
  }
}

}  // namespace foretoken::cuda

namespace foretoken {

GpuReport find_gpus() {
  GpuReport report{.built = true};
  cuda::look(report);
  cudaGetLastError();  // what looking met is in the report
  bool usable = false;
  for (const GpuInfo& gpu : report.gpus) usable |= !gpu.level.empty();
  if (!report.failure && !usable) report.failure = cuda::old_gpus(report.gpus);
  return report;
}

static Failure no_such_gpu(int index, const GpuReport& report) {
  const size_t count = report.gpus.size();
  return {.code = "NO_DEVICE",
          .op = "openDevice",
          .argument = "index",
          .text = "there is no such GPU",
          .wanted = count == 1 ? "0, the only one that this process sees" : "0 to " + std::to_string(count - 1),
          .got = std::to_string(index)};
}

// nullopt and the failure when it is not there, or cannot be used.
static std::optional<GpuInfo> find_gpu(int index, Failure& failure) {
  const GpuReport report = find_gpus();
  if (report.gpus.empty()) {
    failure = report.failure;
  } else if (index < 0 || static_cast<size_t>(index) >= report.gpus.size()) {
    failure = no_such_gpu(index, report);
  } else if (const GpuInfo& info = report.gpus[static_cast<size_t>(index)]; info.level.empty()) {
    failure = cuda::old_gpus({info});
  } else {
    return info;
  }
  return std::nullopt;
}

std::unique_ptr<Gpu> open_gpu(int index, bool sync, Failure& failure) {
  const std::optional<GpuInfo> info = find_gpu(index, failure);
  return info ? cuda::open(*info, sync, failure) : nullptr;
}

const Backend* find_cuda_backend(int index, Failure& failure) {
  const std::optional<GpuInfo> info = find_gpu(index, failure);
  return info ? find_cuda_backend(info->level, failure) : nullptr;
}

const Backend* find_cuda_backend(const std::string& level, Failure& failure) {
  static const std::map<std::string, Backend> backends = {
      {"sm_80", {"cuda", "sm_80", &cuda::sm80_table(), nullptr, cuda::packed_weight_bytes}},
      {"sm_90", {"cuda", "sm_90", &cuda::sm90_table(), nullptr, cuda::packed_weight_bytes}}};
  if (const auto found = backends.find(level); found != backends.end()) return &found->second;
  failure = {.code = "NO_DEVICE",
             .op = "openDevice",
             .argument = "like",
             .text = "there are no kernels for this architecture",
             .wanted = "sm_80 or sm_90",
             .got = level};
  return nullptr;
}

int usual_multiprocessors(const std::string& level) { return level == "sm_90" ? 132 : 108; }

}  // namespace foretoken
