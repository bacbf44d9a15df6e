// What a stream runs, and what a graph keeps to run again and again.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "executor.h"
#include "loaded.h"

namespace foretoken::ptx::runtime {

struct Device;
struct Event;
class HostMemory;

struct Work {
  enum class Kind { kernel, copy, fill, host, free, record, marker };

  explicit Work(Kind work_kind) : kind(work_kind) {}
  virtual ~Work() = default;
  // Once for every run, when it is enqueued: what was promised of host memory at this moment. `poison`: nothing may
  // still read what will be overwritten.
  virtual void enqueued(HostMemory&, bool) {}
  // Throws std::exception: the device is lost. Not called on a lost device.
  virtual void run(Device&) {}
  // Called in any case after it ran or was skipped.
  virtual void finished(Device&, HostMemory&) {}

  const Kind kind;
};

struct KernelWork : Work {
  KernelWork() : Work(Kind::kernel) {}
  void run(Device& device) override;

  LoadedKernel* kernel = nullptr;
  Dimensions grid, block, cluster;
  uint32_t dynamic_shared_bytes = 0;
  uint32_t blocks_per_sm = 1;
  bool cooperative = false;
  std::vector<std::byte> parameters;  // packed as the kernel wants them
};

// Rows of `width` bytes; a plain copy is one row.
struct CopyWork : Work {
  enum class Side { host, device };

  CopyWork() : Work(Kind::copy) {}
  // A source that the caller may change as soon as the call returns.
  void stage();
  void enqueued(HostMemory& memory, bool poison) override;
  void run(Device& device) override;
  void finished(Device& device, HostMemory& memory) override;

  Side to_side = Side::device, from_side = Side::device;
  char* to = nullptr;
  const char* from = nullptr;
  size_t to_pitch = 0, from_pitch = 0, width = 0, height = 1;
  Device* to_device = nullptr;    // where `to` is, if on a device
  Device* from_device = nullptr;  // likewise `from`
  bool pinned_source = false, pinned_target = false;
  bool waits = false;  // the call returns when it has run: host memory that is not page-locked
  std::vector<char> staged;
};

struct FillWork : Work {
  FillWork() : Work(Kind::fill) {}
  void run(Device& device) override;

  Device* owner = nullptr;
  uint64_t to = 0;
  size_t pitch = 0, width = 0, height = 1;
  uint8_t value = 0;
};

// Runs on the runtime's own thread, without the lock.
struct HostWork : Work {
  HostWork() : Work(Kind::host) {}

  cudaHostFn_t function = nullptr;
  cudaStreamCallback_t callback = nullptr;  // instead; is called with the device's error if there is one
  cudaStream_t stream = nullptr;
  void* data = nullptr;
};

// The end of an allocation in the order of the stream.
struct FreeWork : Work {
  FreeWork() : Work(Kind::free) {}
  void finished(Device& device, HostMemory& memory) override;

  uint64_t address = 0;
};

// cudaEventRecord: says when what came before it was done.
struct RecordWork : Work {
  RecordWork() : Work(Kind::record) {}
  void finished(Device& device, HostMemory& memory) override;

  double milliseconds = 0;
};

// Nothing: a place in a stream, for what must come before it.
struct MarkerWork : Work {
  MarkerWork() : Work(Kind::marker) {}
};

}  // namespace foretoken::ptx::runtime
