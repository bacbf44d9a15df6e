// A device as one JavaScript environment sees it: backend, memory and stream. The dry one keeps the same ledger and
// neither computes nor allocates.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "../kernels.h"
#include "allocator.h"
#include "gpu.h"
#include "stream.h"
#include "thread_pool.h"

namespace foretoken {

// An op kept to be run again and again, and what the ops after it will read.
struct RecordedTask {
  std::unique_ptr<Task> task;
  Ahead ahead = {};
};
// Shared: a replay may still be queued when the recording is freed.
using Recording = std::vector<RecordedTask>;

class Device {
 public:
  // The CPU, or a dry device of any backend. `multiprocessors` are those of the GPU that a dry one stands for.
  Device(const Backend& backend, bool dry, int64_t memory_limit, int multiprocessors = 0);
  Device(const Backend& backend, std::unique_ptr<Gpu> gpu, int64_t memory_limit);
  ~Device();
  Device(const Device&) = delete;

  const Backend& backend() const { return backend_; }
  bool dry() const { return dry_; }
  const Machine& machine() const { return machine_; }
  const Parallel* parallel() const { return parallel_.get(); }
  Allocator& allocator() { return *allocator_; }

  // ---- a GPU's ops are launched by the caller, who has it `enter` before and asks what was `launched` after
  Gpu* gpu() { return gpu_.get(); }
  const Gpu* gpu() const { return gpu_.get(); }

  // ---- the CPU's ops
  // Function: void(Stream&). Runs after what was enqueued before; is kept instead while recording, dropped when dry.
  template <class Function>
  void enqueue(Function&& function) {
    using Made = TaskOf<std::decay_t<Function>>;
    if (!recording_) {
      enqueue_now(std::forward<Function>(function));
    } else if (!dry_) {
      recording_->push_back({std::make_unique<Made>(std::forward<Function>(function))});
    }
  }

  // nullptr: dry, or a GPU.
  Stream* stream() { return stream_.get(); }
  // FORETOKEN_SYNC: every op has run when enqueue returns.
  bool synchronous() const { return sync_; }

  // ---- copies
  // Stores bytes as they are now, after what was enqueued before; while recording, at each replay.
  void write(void* to, const void* from, int64_t bytes, Failure& failure);
  // Copies bytes after what was enqueued before and calls `done`, from another thread, with what went wrong until then.
  // Not while recording, and not on the dry device.
  void read(void* to, const void* from, int64_t bytes, Gpu::Done done);

  // ---- recordings. Those that return a failure leave nothing recording.
  bool recording() const { return recording_ != nullptr; }
  uint32_t begin_recording(Failure* failure = nullptr);
  uint32_t end_recording(Failure* failure = nullptr);
  // Ends it without what was recorded; it has still to be freed.
  uint32_t abandon_recording();
  bool has_recording(uint32_t id) const { return recordings_.contains(id); }
  // Not while recording.
  Failure replay(uint32_t id, int64_t times = 1);
  // A recording of recordings: of those in `choices` the one whose place the device finds in *index when it gets there
  // (beyond the ends: the first, the last), then those in `after`. A GPU, which has what it runs before it can know,
  // runs the last. They must not be freed before it is replayed for the last time.
  uint32_t combine(std::span<const uint32_t> choices, const int32_t* index, std::span<const uint32_t> after);
  void free_recording(uint32_t id);

 private:
  struct Read;
  struct StagedWrite;

  // Runs even while recording, and not again with it.
  template <class Function>
  void enqueue_now(Function&& function) {
    if (!stream_) return;
    stream_->enqueue(std::forward<Function>(function));
    if (sync_) stream_->wait();
  }
  uint32_t keep_recording();
  void look_ahead(Recording& recording) const;
  void run(const Recording& recording, Stream& stream);  // on the stream

  const Backend& backend_;
  const bool dry_, sync_;
  Machine machine_;
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<PoolParallel> parallel_;
  std::shared_ptr<Recording> recording_;  // empty on a GPU, which keeps what it records
  uint32_t recording_id_ = 0;
  std::unordered_map<uint32_t, std::shared_ptr<Recording>> recordings_;
  std::unordered_map<uint32_t, std::vector<uint32_t>> combined_;  // on a GPU: what such a recording runs
  std::atomic<int64_t> staged_{0};                                // bytes of writes that wait in the stream
};

}  // namespace foretoken
