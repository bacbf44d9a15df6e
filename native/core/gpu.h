// What core needs of a GPU as one JavaScript environment uses it: memory, one stream, copies, recordings. native/cuda
// implements it. All calls come from the environment's thread; none waits for the GPU unless it says so.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backing.h"
#include "failure.h"

namespace foretoken {

// A GPU's memory comes in pages of this many bytes.
constexpr int64_t kGpuPage = 2 << 20;

struct GpuInfo {
  int index = 0;  // among those that the process sees
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory = 0;  // bytes
  std::string level;   // of the kernels that run on it; empty: it is too old for any
};

class Gpu {
 public:
  // Called exactly once, from any thread.
  using Done = std::function<void(Failure)>;

  // What is queued runs on; what has not been read by now is not read any more: its `done` says so.
  virtual ~Gpu() = default;
  // The process ends: the driver will take everything back, so that the destructor need not.
  virtual void abandon() = 0;

  virtual const GpuInfo& info() const = 0;

  // ---- memory
  // Bytes that may be live unless the user says otherwise.
  virtual int64_t default_limit() const = 0;
  // One per range of addresses; nullptr: blocks have no common range, each is allocated by itself.
  virtual std::shared_ptr<Backing> backing() = 0;
  // A block by itself; nullptr when there is no memory.
  virtual void* allocate(int64_t bytes) = 0;
  // What is enqueued by now may still use it.
  virtual void free(void* data) = 0;
  // Waits until nothing that is enqueued by now uses memory any more.
  virtual void wait_for_memory() = 0;

  // ---- the stream
  virtual void* stream() const = 0;
  // Before an op: makes this GPU the thread's current one. A failure when it cannot compute any more.
  virtual Failure enter(const char* op) = 0;
  // After an op: what went wrong in launching it. With FORETOKEN_SYNC waits until it has run.
  virtual Failure launched(const char* op) = 0;
  // Copies at the call, to memory on the GPU. Waits when too much is on its way already.
  virtual Failure write(void* to, const void* from, int64_t bytes) = 0;
  // Copies what is there after all that is enqueued by now; `to` must stay until `done`. 0 bytes: `done` alone.
  virtual void read(void* to, const void* from, int64_t bytes, Done done) = 0;

  // ---- recordings: what is enqueued between begin and end is kept instead of run
  virtual Failure begin_recording() = 0;
  virtual Failure end_recording(uint32_t id) = 0;
  virtual void abandon_recording() = 0;
  virtual Failure replay(uint32_t id) = 0;
  // Queued replays still run.
  virtual void free_recording(uint32_t id) = 0;
};

}  // namespace foretoken
