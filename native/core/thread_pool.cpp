#include "thread_pool.h"

#include <algorithm>
#include <mutex>

#include "cores.h"
#include "spin.h"

namespace foretoken {

static uint32_t tasks_left(uint64_t claims) { return static_cast<uint32_t>(claims); }

// Fetches a thread's share of what will be read, a little at a time.
class Fetcher {
 public:
  Fetcher(const Ahead& ahead, int worker) {
    const uint64_t first = uint64_t{ahead.share} * static_cast<uint32_t>(worker);
    if (first >= ahead.bytes) return;
    next_ = ahead.data + first;
    end_ = next_ + std::min({uint64_t{ahead.share}, ahead.bytes - first, kMost});
  }
  // Until ready() is true or all is fetched.
  template <class Ready>
  void fetch_until(Ready ready) {
    while (next_ < end_ && !ready())
      for (int line = 0; line < kLines; line++, next_ += 64) __builtin_prefetch(next_, 0, 2);
  }

 private:
  static constexpr uint64_t kMost = 128 << 10;  // bytes: of a cache that may be as small as 256 KB
  static constexpr int kLines = 8;              // between two looks
  const std::byte *next_ = nullptr, *end_ = nullptr;
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)) {
  for (int worker = 1; worker < threads_; worker++) workers_.emplace_back([this, worker] { work(worker); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  forks_++;
  forks_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

std::shared_ptr<ThreadPool> ThreadPool::shared() {
  // Leaked: they must outlive whatever is still running when static objects are destroyed.
  static auto* lock = new std::mutex;
  static auto* current = new std::weak_ptr<ThreadPool>;
  std::lock_guard guard(*lock);
  std::shared_ptr<ThreadPool> pool = current->lock();
  if (!pool) *current = pool = std::make_shared<ThreadPool>(thread_count());
  return pool;
}

void ThreadPool::run(int64_t tasks, Body body, void* context, const std::atomic<bool>& cancelled, const Ahead& ahead) {
  if (tasks <= 0) return;
  if (threads_ == 1 || tasks == 1 || busy_.exchange(true, std::memory_order_acquire)) {
    for (int64_t task = 0; task < tasks && !cancelled.load(std::memory_order_relaxed); task++) body(context, task, 0);
    return;
  }
  constexpr int64_t kMost = UINT32_MAX;
  for (int64_t first = 0; first < tasks; first += kMost)
    run_round(first, static_cast<uint32_t>(std::min(kMost, tasks - first)), body, context, cancelled, ahead);
  busy_.store(false, std::memory_order_release);
}

// The caller's first task is not up for claiming: it would only wait for the line that has just gone to the workers.
void ThreadPool::run_round(int64_t first, uint32_t tasks, Body body, void* context, const std::atomic<bool>& cancelled,
                           const Ahead& ahead) {
  job_.body.store(body, std::memory_order_relaxed);
  job_.context.store(context, std::memory_order_relaxed);
  job_.end.store(first + tasks, std::memory_order_relaxed);
  job_.cancelled.store(&cancelled, std::memory_order_relaxed);
  job_.ahead.store(ahead.data, std::memory_order_relaxed);
  job_.ahead_bytes.store(ahead.bytes, std::memory_order_relaxed);
  job_.ahead_share.store(ahead.share, std::memory_order_relaxed);
  const uint32_t fork = forks_.load(std::memory_order_relaxed) + 1;
  job_.claims.store(uint64_t{fork} << 32 | (tasks - 1), std::memory_order_release);
  forks_.store(fork, std::memory_order_relaxed);
  // A worker that parks at this moment is seen below: the fence for that costs as much as a small task.
  if (parked_.load(std::memory_order_relaxed) > 0) wake_parked();
  if (!cancelled.load(std::memory_order_relaxed)) body(context, first, 0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_relaxed) > 0) wake_parked();

  awaited_ += tasks - 1;
  const auto all_done = [&] { return finished_.load(std::memory_order_acquire) == awaited_; };
  // Looked at first: the claims are in another core's cache, and there is no need of them any more.
  if (all_done()) return;
  Ahead own = ahead;
  awaited_ -= run_rest(0, own);
  Fetcher(own, 0).fetch_until(all_done);
  if (spin_until(all_done)) return;
  joiner_parked_.store(true, std::memory_order_seq_cst);
  for (uint32_t done; (done = finished_.load(std::memory_order_seq_cst)) != awaited_;) finished_.wait(done);
  joiner_parked_.store(false, std::memory_order_relaxed);
}

void ThreadPool::wake_parked() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  forks_.notify_all();
}

// Claims a task and runs it; false when none is left. A successful exchange proves that the fork seen before it has not
// ended since, so that the fields read in between are this fork's.
bool ThreadPool::run_one(int worker, Ahead& ahead) {
  uint64_t claims = job_.claims.load(std::memory_order_acquire);
  Body body;
  void* context;
  int64_t task;
  const std::atomic<bool>* cancelled;
  Ahead seen;
  do {
    if (tasks_left(claims) == 0) return false;
    body = job_.body.load(std::memory_order_relaxed);
    context = job_.context.load(std::memory_order_relaxed);
    cancelled = job_.cancelled.load(std::memory_order_relaxed);
    seen = {job_.ahead.load(std::memory_order_relaxed), job_.ahead_bytes.load(std::memory_order_relaxed),
            job_.ahead_share.load(std::memory_order_relaxed)};
    task = job_.end.load(std::memory_order_relaxed) - tasks_left(claims);
  } while (
      !job_.claims.compare_exchange_weak(claims, claims - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  ahead = seen;
  if (!cancelled->load(std::memory_order_relaxed)) body(context, task, worker);
  return true;
}

// Runs tasks until none is left to claim; how many.
uint32_t ThreadPool::run_rest(int worker, Ahead& ahead) {
  uint32_t done = 0;
  while (run_one(worker, ahead)) done++;
  return done;
}

void ThreadPool::work(int worker) {
  const auto called = [&] { return tasks_left(job_.claims.load(std::memory_order_acquire)) > 0; };
  while (!stopping_.load(std::memory_order_acquire)) {
    if (!spin_until(called)) {
      const uint32_t forks = forks_.load(std::memory_order_acquire);
      parked_.fetch_add(1, std::memory_order_seq_cst);
      std::atomic_thread_fence(std::memory_order_seq_cst);  // either the caller sees this, or this sees the fork
      if (!called() && !stopping_.load(std::memory_order_seq_cst)) forks_.wait(forks);
      parked_.fetch_sub(1, std::memory_order_relaxed);
    }
    Ahead ahead;
    const uint32_t done = run_rest(worker, ahead);
    if (done == 0) continue;
    // Once its tasks are counted the fork may end at any moment: only members of the pool are touched after that.
    finished_.fetch_add(done, std::memory_order_seq_cst);
    if (joiner_parked_.load(std::memory_order_seq_cst)) finished_.notify_all();
    Fetcher(ahead, worker).fetch_until(called);
  }
}

PoolParallel::PoolParallel(std::shared_ptr<ThreadPool> shared_pool, const std::atomic<bool>& cancelled_flag)
    : pool(std::move(shared_pool)), cancelled(cancelled_flag) {
  threads = pool->threads();
  run = [](const Parallel& self, int64_t tasks, ThreadPool::Body body, void* context) {
    const auto& parallel = static_cast<const PoolParallel&>(self);
    parallel.pool->run(tasks, body, context, parallel.cancelled, parallel.ahead);
  };
}

}  // namespace foretoken
