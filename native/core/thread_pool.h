// Fork and join inside a kernel: the calling thread and the pool's workers share out tasks.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "call.h"

namespace foretoken {

// What will be read after a fork: thread t's share are `share` bytes at data + t·share, as far as there are any.
// Threads that wait fetch theirs, so that the memory does not stand still meanwhile.
struct Ahead {
  const std::byte* data = nullptr;
  uint32_t bytes = 0, share = 0;
};

class ThreadPool {
 public:
  using Body = void (*)(void* context, int64_t task, int worker);

  // `threads` counts the caller of run(): threads − 1 are started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  // The pool of the process, of thread_count() threads. It lives as long as someone holds it: no static object owns a
  // thread, or the process would hang at exit.
  static std::shared_ptr<ThreadPool> shared();

  int threads() const { return threads_; }

  // Calls body once for every task and returns when all are done; once `cancelled` is set, tasks are skipped.
  // While another thread is inside, or when called from inside a task, the caller runs its tasks alone.
  void run(int64_t tasks, Body body, void* context, const std::atomic<bool>& cancelled, const Ahead& ahead = {});

 private:
  // One fork. All but `claims` is written only while no task is left to claim, and read only by whoever then claims
  // one. One cache line, which is all that has to travel to the workers.
  struct alignas(64) Job {
    std::atomic<uint64_t> claims{0};  // upper half: number of the fork; lower half: tasks left to claim
    std::atomic<Body> body{nullptr};
    std::atomic<void*> context{nullptr};
    std::atomic<int64_t> end{0};  // one past the last task
    std::atomic<const std::atomic<bool>*> cancelled{nullptr};
    std::atomic<const std::byte*> ahead{nullptr};
    std::atomic<uint32_t> ahead_bytes{0}, ahead_share{0};
  };

  void work(int worker);
  bool run_one(int worker, Ahead& ahead);
  uint32_t run_rest(int worker, Ahead& ahead);
  void run_round(int64_t first, uint32_t tasks, Body body, void* context, const std::atomic<bool>& cancelled,
                 const Ahead& ahead);
  void wake_parked();

  const int threads_;
  std::atomic<bool> busy_{false};
  uint32_t awaited_ = 0;  // what finished_ is once the workers are through; of the caller of run()
  Job job_;
  alignas(64) std::atomic<uint32_t> finished_{0};  // tasks that workers have run, of all forks together
  alignas(64) std::atomic<bool> joiner_parked_{false};
  std::atomic<uint32_t> forks_{0};  // what parked workers wait on
  std::atomic<int> parked_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

// A stream's way into the pool, as kernels see it.
struct PoolParallel : Parallel {
  PoolParallel(std::shared_ptr<ThreadPool> pool, const std::atomic<bool>& cancelled);
  std::shared_ptr<ThreadPool> pool;
  const std::atomic<bool>& cancelled;
  Ahead ahead;  // of the call that runs; of the stream's thread
};

}  // namespace foretoken
