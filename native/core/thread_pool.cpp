#include "thread_pool.h"

#include <algorithm>
#include <mutex>

#include "cores.h"
#include "spin.h"

namespace foretoken {

static uint32_t tasks_left(uint64_t claims) { return static_cast<uint32_t>(claims); }

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

void ThreadPool::run(int64_t tasks, Body body, void* context, const std::atomic<bool>& cancelled) {
  if (tasks <= 0) return;
  if (threads_ == 1 || tasks == 1 || busy_.exchange(true, std::memory_order_acquire)) {
    for (int64_t task = 0; task < tasks && !cancelled.load(std::memory_order_relaxed); task++) body(context, task, 0);
    return;
  }
  constexpr int64_t kMost = UINT32_MAX;
  for (int64_t first = 0; first < tasks; first += kMost)
    run_round(first, static_cast<uint32_t>(std::min(kMost, tasks - first)), body, context, cancelled);
  busy_.store(false, std::memory_order_release);
}

void ThreadPool::run_round(int64_t first, uint32_t tasks, Body body, void* context,
                           const std::atomic<bool>& cancelled) {
  job_.body.store(body, std::memory_order_relaxed);
  job_.context.store(context, std::memory_order_relaxed);
  job_.first.store(first, std::memory_order_relaxed);
  job_.tasks.store(tasks, std::memory_order_relaxed);
  job_.cancelled.store(&cancelled, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t fork = (claims_.load(std::memory_order_relaxed) >> 32) + 1;
  claims_.store(fork << 32 | tasks, std::memory_order_seq_cst);
  forks_.fetch_add(1, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst) > 0) forks_.notify_all();

  while (run_one(0)) {
  }
  const auto all_done = [&] { return finished_.load(std::memory_order_acquire) == tasks; };
  if (spin_until(all_done)) return;
  joiner_parked_.store(true, std::memory_order_seq_cst);
  for (uint32_t done; (done = finished_.load(std::memory_order_seq_cst)) != tasks;) finished_.wait(done);
  joiner_parked_.store(false, std::memory_order_relaxed);
}

// Claims a task and runs it; false when none is left. A successful exchange proves that the fork seen before it has not
// ended since, so that the fields read in between are this fork's.
bool ThreadPool::run_one(int worker) {
  uint64_t claims = claims_.load(std::memory_order_acquire);
  Body body;
  void* context;
  int64_t task;
  const std::atomic<bool>* cancelled;
  uint32_t tasks;
  do {
    if (tasks_left(claims) == 0) return false;
    body = job_.body.load(std::memory_order_relaxed);
    context = job_.context.load(std::memory_order_relaxed);
    cancelled = job_.cancelled.load(std::memory_order_relaxed);
    tasks = job_.tasks.load(std::memory_order_relaxed);
    task = job_.first.load(std::memory_order_relaxed) + (tasks - tasks_left(claims));
  } while (!claims_.compare_exchange_weak(claims, claims - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  if (!cancelled->load(std::memory_order_relaxed)) body(context, task, worker);
  // Once the last task is counted the fork may end at any moment: only members of the pool are touched after that.
  const bool last = finished_.fetch_add(1, std::memory_order_seq_cst) + 1 == tasks;
  if (last && joiner_parked_.load(std::memory_order_seq_cst)) finished_.notify_all();
  return true;
}

void ThreadPool::work(int worker) {
  while (!stopping_.load(std::memory_order_acquire)) {
    const uint32_t forks = forks_.load(std::memory_order_acquire);
    while (run_one(worker)) {
    }
    if (spin_until([&] { return forks_.load(std::memory_order_acquire) != forks; })) continue;
    parked_.fetch_add(1, std::memory_order_seq_cst);
    forks_.wait(forks);
    parked_.fetch_sub(1, std::memory_order_relaxed);
  }
}

PoolParallel::PoolParallel(std::shared_ptr<ThreadPool> shared_pool, const std::atomic<bool>& cancelled_flag)
    : pool(std::move(shared_pool)), cancelled(cancelled_flag) {
  threads = pool->threads();
  run = [](const Parallel& self, int64_t tasks, ThreadPool::Body body, void* context) {
    const auto& parallel = static_cast<const PoolParallel&>(self);
    parallel.pool->run(tasks, body, context, parallel.cancelled);
  };
}

}  // namespace foretoken
