#include "runtime.h"

#include <cstdlib>

#include "report.h"

namespace foretoken::ptx::runtime {

Device::Device(int device_ordinal, const Settings& settings)
    : ordinal(device_ordinal), dry(settings.dry), report(settings.report), space(ordinal) {
  card.architecture = *find_architecture(settings.architecture);
  card.sm_count = settings.sm_count;
  card.memory_bytes = settings.memory_bytes;
  card.index = settings.visible_devices.at(static_cast<size_t>(ordinal));
  executor = executor_maker()(card, space.range(), settings);
  memory = std::make_unique<DeviceMemory>(space, dry ? nullptr : executor.get(), settings.memory_bytes);
  loader = std::make_unique<Loader>(
      card, *executor, [this](uint64_t bytes, uint64_t alignment) { return memory->place_variable(bytes, alignment); });
  legacy_stream = std::make_shared<Stream>();
  legacy_stream->device = this;
  legacy_stream->legacy = true;
}

MakeExecutor& executor_maker() {
  static MakeExecutor make = make_machine_executor;
  return make;
}

void Device::record_launch(const KernelWork& work, const machine::Counters& counters) {
  if (!report.empty()) report_launch(report, work, card, counters);
  constexpr size_t kKept = 65536;
  if (launches.size() == kKept) launches.pop_front();
  launches.push_back(
      {work.kernel->kernel->name, work.grid, work.block, work.cluster, work.dynamic_shared_bytes, counters});
}

Runtime& Runtime::instance() {
  static Runtime* runtime = new Runtime;
  return *runtime;
}

Runtime::Runtime() {
  try {
    start();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[ptx] %s\n", error.what());
    std::exit(2);  // a wrong setting of a test must not look like a machine without a GPU
  }
}

void Runtime::start() {
  settings = read_settings();
  random = machine::Random(settings.seed);
  counters = {};
  for (size_t i = 0; i < settings.visible_devices.size(); i++) devices.push_back(make_device(static_cast<int>(i)));
}

std::unique_ptr<Device> Runtime::make_device(int ordinal) {
  auto device = std::make_unique<Device>(ordinal, settings);
  auto pool = std::make_shared<Pool>();
  pool->device = ordinal;
  device->default_pool = device->current_pool = pools.add(std::move(pool));
  return device;
}

void Runtime::forget(Device& device) {
  streams.remove_if([&](const Stream& stream) { return stream.device == &device; });
  events.remove_if([&](const Event& event) { return event.device == &device; });
  pools.remove_if([&](const Pool& pool) { return pool.device == device.ordinal; });
  captures.clear();
  executables.clear();
  graphs.clear();
  const int ordinal = device.ordinal;
  auto& place = devices[static_cast<size_t>(ordinal)];
  place.reset();
  place = make_device(ordinal);
}

void Runtime::reset(Lock& lock) {
  for (const auto& device : devices) drive(lock, *device);
  changed.wait(lock, [this] { return host_functions_.empty(); });
  captures.clear();
  executables.clear();
  graphs.clear();
  events.clear();
  streams.clear();
  pools.clear();
  devices.clear();
  start();
}

Device& Runtime::device() { return device_at(thread_state().device); }

Device& Runtime::device_at(int ordinal) {
  require(ordinal >= 0 && ordinal < static_cast<int>(devices.size()), cudaErrorInvalidDevice,
          "no device of this number");
  return *devices[static_cast<size_t>(ordinal)];
}

Stream& Runtime::stream(cudaStream_t handle) {
  Device& current = device();
  if (handle == nullptr || handle == cudaStreamLegacy) return *current.legacy_stream;
  if (handle != cudaStreamPerThread) return *streams.find(handle);
  auto& stream = current.thread_streams[std::this_thread::get_id()];
  if (!stream) {
    stream = std::make_shared<Stream>();
    stream->id = ++ids;
    stream->device = &current;
    current.streams.push_back(stream);
  }
  return *stream;
}

}  // namespace foretoken::ptx::runtime
