// A device as one JavaScript environment sees it: backend, memory and stream. The dry one keeps the same ledger and
// neither computes nor allocates.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "../kernels.h"
#include "allocator.h"
#include "stream.h"
#include "thread_pool.h"

namespace foretoken {

// Ops kept to be run again and again. Shared: a replay may still be queued when the recording is freed.
using Recording = std::vector<std::unique_ptr<Task>>;

class Device {
 public:
  Device(const Backend& backend, bool dry, int64_t memory_limit);
  ~Device();
  Device(const Device&) = delete;

  const Backend& backend() const { return backend_; }
  bool dry() const { return dry_; }
  const Machine& machine() const { return machine_; }
  const Parallel* parallel() const { return parallel_.get(); }
  Allocator& allocator() { return *allocator_; }

  // Function: void(Stream&). Runs after what was enqueued before; is kept instead while recording, dropped when dry.
  template <class Function>
  void enqueue(Function&& function) {
    using Made = TaskOf<std::decay_t<Function>>;
    if (!recording_) {
      enqueue_now(std::forward<Function>(function));
    } else if (!dry_) {
      recording_->push_back(std::make_unique<Made>(std::forward<Function>(function)));
    }
  }

  // Runs even while recording, and not again with it.
  template <class Function>
  void enqueue_now(Function&& function) {
    if (!stream_) return;
    stream_->enqueue(std::forward<Function>(function));
    if (sync_) stream_->wait();
  }

  // nullptr: dry.
  Stream* stream() { return stream_.get(); }
  // FORETOKEN_SYNC: every op has run when enqueue returns.
  bool synchronous() const { return sync_; }
  // Skips what is queued and joins the stream's thread.
  void stop();

  bool recording() const { return recording_ != nullptr; }
  // Returns what end_recording will, the number of the recording.
  uint32_t begin_recording();
  uint32_t end_recording();
  bool has_recording(uint32_t id) const { return recordings_.contains(id); }
  // Not while recording.
  void replay(uint32_t id);
  void free_recording(uint32_t id);

 private:
  const Backend& backend_;
  const bool dry_, sync_;
  Machine machine_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<PoolParallel> parallel_;
  std::shared_ptr<Recording> recording_;
  uint32_t recording_id_ = 0;
  std::unordered_map<uint32_t, std::shared_ptr<Recording>> recordings_;
};

}  // namespace foretoken
