// The state of the stand-in runtime. One lock guards all of it; a kernel runs under it, a host function does not.
#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "address_space.h"
#include "device_memory.h"
#include "error.h"
#include "graph.h"
#include "handles.h"
#include "hooks.h"
#include "host_memory.h"
#include "loaded.h"
#include "machine/random.h"
#include "settings.h"
#include "stream.h"
#include "virtual_memory.h"

namespace foretoken::ptx::runtime {

using Lock = std::unique_lock<std::mutex>;

struct LaunchRecord {
  std::string kernel;
  Dimensions grid, block, cluster;
  uint32_t dynamic_shared_bytes = 0;
  machine::Counters counters;
};

struct Device {
  Device(int device_ordinal, const Settings& settings);

  void record_launch(const KernelWork& work, const machine::Counters& counters);

  int ordinal = 0;
  Card card;
  bool dry = false;
  std::string report;
  AddressSpace space;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<DeviceMemory> memory;
  std::unique_ptr<Loader> loader;
  VirtualMemory virtual_memory;
  std::shared_ptr<Stream> legacy_stream;
  std::map<std::thread::id, std::shared_ptr<Stream>> thread_streams;  // cudaStreamPerThread
  std::vector<std::shared_ptr<Stream>> streams;  // all but the legacy one, destroyed ones until they are empty
  cudaMemPool_t default_pool = nullptr, current_pool = nullptr;
  std::optional<Error> lost;  // set by the first fault; every later call fails with it
  unsigned flags = 0;
  std::map<cudaLimit, size_t> limits;
  std::deque<LaunchRecord> launches;
};

class Runtime {
 public:
  // Made at the first call, never destroyed: objects of the process may still call while it ends.
  static Runtime& instance();

  // Waits for everything, forgets everything but what objects registered, and reads the settings again.
  void reset(Lock& lock);

  // cudaDeviceReset: a new device in place of this one, which has nothing left to do.
  void forget(Device& device);

  // The calling thread's device.
  Device& device();
  Device& device_at(int ordinal);  // throws cudaErrorInvalidDevice
  Stream& stream(cudaStream_t handle);

  // --- enqueueing (schedule.cpp)
  // Adds to a stream, or to the graph that captures it (then nullptr).
  std::shared_ptr<Operation> enqueue(Lock& lock, Stream& stream, std::shared_ptr<Work> work,
                                     std::vector<std::shared_ptr<Operation>> also_after = {});
  // Runs what the operation needs, and it. The lock is released while waiting for another thread or a host function.
  void drive(Lock& lock, const std::shared_ptr<Operation>& operation);
  // Runs at most one operation towards it; true once it is done.
  bool advance(Lock& lock, const std::shared_ptr<Operation>& operation);
  void drive(Lock& lock, Stream& stream);
  void drive(Lock& lock, Device& device);
  // The calls by which the host waits, counted: everything there is runs, pools give back what they need not keep.
  void synchronize(Lock& lock, Stream& stream);
  void synchronize(Lock& lock, Device& device);
  void trim_pools(Device& device);
  // Throws the fault that the device was lost by.
  static void check(const Device& device);

  // --- capture (capture.cpp)
  void begin_capture(Stream& stream, cudaStreamCaptureMode mode);
  std::shared_ptr<Graph> end_capture(Stream& stream);
  // Throws for calls that cannot be made while this thread, or in global mode any, captures.
  void forbid_while_capturing(const char* what);
  void forbid_while_capturing(Stream& stream, const char* what);
  void wait_for(Lock& lock, Stream& stream, Event& event);
  void record(Lock& lock, Stream& stream, Event& event);

  std::mutex mutex;
  std::condition_variable changed;  // an operation or a host function ended, or there is one to run
  Settings settings;
  std::vector<std::unique_ptr<Device>> devices;
  HostMemory host_memory;
  Handles<cudaStream_t, Stream> streams{1};
  Handles<cudaEvent_t, Event> events{2};
  Handles<cudaGraph_t, Graph> graphs{3};
  Handles<cudaGraphExec_t, ExecutableGraph> executables{4};
  Handles<cudaMemPool_t, Pool> pools{5};
  std::vector<std::shared_ptr<Capture>> captures;
  PtxCounters counters{};
  machine::Random random;
  uint64_t ids = 0;

 private:
  Runtime();
  void start();
  std::unique_ptr<Device> make_device(int ordinal);
  std::shared_ptr<Operation> next_towards(const std::shared_ptr<Operation>& operation);
  void execute(Lock& lock, const std::shared_ptr<Operation>& operation);
  void follow_schedule(Lock& lock, const std::shared_ptr<Operation>& added);
  void serve_host_functions();
  void add_to_capture(Stream& stream, std::shared_ptr<Work> work);

  std::deque<std::shared_ptr<Operation>> host_functions_;
  bool serving_ = false;
};

// What belongs to the calling thread.
struct ThreadState {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  std::string last_message;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  bool in_host_function = false;
  struct CallConfiguration {
    dim3 grid, block;
    size_t shared = 0;
    cudaStream_t stream = nullptr;
  };
  std::vector<CallConfiguration> configurations;
};
ThreadState& thread_state();

// --- how the functions of the API are written (call.cpp)
enum class Needs { nothing, driver, device };

// Runs the body under the lock, turns what it throws into the code to return, and keeps that for cudaGetLastError.
cudaError_t call(Needs needs, const std::function<void(Runtime&, Lock&)>& body);
inline cudaError_t call(const std::function<void(Runtime&, Lock&)>& body) { return call(Needs::device, body); }

}  // namespace foretoken::ptx::runtime
