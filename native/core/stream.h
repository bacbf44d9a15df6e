// The CPU stream: one worker thread that runs tasks in the order they were enqueued, as a CUDA stream would.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <utility>

#include "failure.h"
#include "view.h"

namespace foretoken {

class Stream;

// What a stream runs. A task in a recording runs many times, so running does not consume it.
struct Task {
  virtual ~Task() = default;
  virtual void run(Stream& stream) = 0;
  // The packed weight that it reads, if any.
  virtual View weight() const { return {}; }
};

template <class Function>
struct TaskOf final : Task {
  template <class Given>
  explicit TaskOf(Given&& given) : function(std::forward<Given>(given)) {}
  void run(Stream& stream) override { function(stream); }
  View weight() const override {
    if constexpr (requires { function.weight(); })
      return function.weight();
    else
      return {};
  }
  Function function;
};

class Stream {
 public:
  static constexpr uint64_t kCapacity = 1024;  // tasks; a full queue makes the caller wait
  static constexpr size_t kSlotBytes = 832;    // the largest kernel call fits, so enqueueing never allocates

  Stream();
  ~Stream();
  Stream(const Stream&) = delete;

  // Only one thread may enqueue. Function: void(Stream&), moved into the queue.
  template <class Function>
  void enqueue(Function&& function) {
    using Made = TaskOf<std::decay_t<Function>>;
    static_assert(sizeof(Made) <= kSlotBytes && alignof(Made) <= alignof(Slot));
    new (claim()) Made(std::forward<Function>(function));
    publish();
  }

  // Waits until all enqueued tasks have run. Blocks: for FORETOKEN_SYNC, tests and large writes.
  void wait();
  bool idle() const { return finished_.load(std::memory_order_acquire) == enqueued_; }

  // Skips what is queued, lets the task that runs now end early if it can, and joins the thread.
  void stop();
  const std::atomic<bool>& cancelled() const { return cancelled_; }

  // The first failure since the last take_failure() is kept.
  void fail(Failure failure);
  Failure take_failure();

 private:
  struct alignas(64) Slot {
    std::byte bytes[kSlotBytes];
  };

  void* claim();
  void publish();
  void work();
  void run_next();
  void wait_until_finished(uint64_t count);

  std::unique_ptr<Slot[]> slots_;
  uint64_t enqueued_ = 0;  // of the enqueueing thread
  alignas(64) std::atomic<uint64_t> published_{0};
  std::atomic<bool> parked_{false};
  std::atomic<uint32_t> wake_{0};
  alignas(64) std::atomic<uint64_t> finished_{0};
  std::atomic<bool> caller_waits_{false};
  std::atomic<uint32_t> progress_{0};
  alignas(64) std::atomic<bool> cancelled_{false};
  std::mutex failure_lock_;
  Failure failure_;
  std::thread worker_;
};

}  // namespace foretoken
