#include "core/thread_pool.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "doctest.h"

using namespace foretoken;

static const std::atomic<bool> kNever{false};

// Runs `tasks` tasks and checks that each ran exactly once, on a worker of this pool.
static void check_each_once(ThreadPool& pool, int64_t tasks, const Ahead& ahead = {}) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
  struct Context {
    std::vector<std::atomic<int>>* runs;
    int threads;
    std::atomic<bool> bad_worker{false};
  } context{&runs, pool.threads()};
  pool.run(
      tasks,
      [](void* given, int64_t task, int worker) {
        auto& self = *static_cast<Context*>(given);
        (*self.runs)[static_cast<size_t>(task)]++;
        if (worker < 0 || worker >= self.threads) self.bad_worker = true;
      },
      &context, kNever, ahead);
  int wrong = 0;
  for (const auto& count : runs) wrong += count != 1;
  CHECK(wrong == 0);
  CHECK(!context.bad_worker);
}

TEST_CASE("thread_pool: every task runs once, with 1 thread, 2, and more than there are cores") {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int64_t tasks : {0, 1, 2, 3, 1000}) check_each_once(pool, tasks);
  }
}

TEST_CASE("thread_pool: fetching ahead skips no task and no fork, whatever the shares are") {
  ThreadPool pool(3);
  const std::vector<std::byte> data(1 << 20);
  const uint32_t bytes = static_cast<uint32_t>(data.size());
  for (const Ahead& ahead :
       {Ahead{data.data(), bytes, bytes / 3}, Ahead{data.data(), bytes, bytes}, Ahead{data.data(), bytes, UINT32_MAX},
        Ahead{data.data(), 100, 1}, Ahead{data.data(), 0, 64}})
    for (int i = 0; i < 300; i++)
      for (int64_t tasks : {2, 3, 7}) check_each_once(pool, tasks, ahead);
}

TEST_CASE("thread_pool: forks in quick succession do not mix") {
  ThreadPool pool(3);
  for (int i = 0; i < 5000; i++) {
    int64_t sum = 0, wanted = 0;
    std::vector<int64_t> parts(static_cast<size_t>(1 + i % 7));
    struct Context {
      std::vector<int64_t>* parts;
      int64_t fork;
    } context{&parts, i};
    pool.run(
        static_cast<int64_t>(parts.size()),
        [](void* given, int64_t task, int) {
          auto& self = *static_cast<Context*>(given);
          (*self.parts)[static_cast<size_t>(task)] = self.fork * 100 + task;
        },
        &context, kNever);
    for (size_t task = 0; task < parts.size(); task++) {
      sum += parts[task];
      wanted += i * 100 + static_cast<int64_t>(task);
    }
    REQUIRE(sum == wanted);
  }
}

TEST_CASE("thread_pool: parked workers wake up") {
  ThreadPool pool(2);
  for (int i = 0; i < 3; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than they spin
    check_each_once(pool, 8);
  }
}

TEST_CASE("thread_pool: two callers at once both get all their tasks") {
  ThreadPool pool(2);
  std::vector<std::thread> callers;
  std::atomic<int64_t> sums[2] = {0, 0};
  for (auto& sum : sums)
    callers.emplace_back([&pool, &sum] {
      for (int i = 0; i < 2000; i++)
        pool.run(
            10, [](void* given, int64_t task, int) { *static_cast<std::atomic<int64_t>*>(given) += task; }, &sum,
            kNever);
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(sums[0] == 2000 * 45);
  CHECK(sums[1] == 2000 * 45);
}

TEST_CASE("thread_pool: a fork from inside a task runs on that worker") {
  ThreadPool pool(2);
  struct Context {
    ThreadPool* pool;
    std::atomic<int> runs{0};
  } context{&pool};
  pool.run(
      4,
      [](void* given, int64_t, int) {
        auto& self = *static_cast<Context*>(given);
        self.pool->run(3, [](void* inner, int64_t, int) { static_cast<Context*>(inner)->runs++; }, given, kNever);
      },
      &context, kNever);
  CHECK(context.runs == 12);
}

TEST_CASE("thread_pool: tasks are skipped once the call is cancelled") {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    struct Context {
      std::atomic<bool> cancelled{false};
      std::atomic<int> runs{0};
    } context;
    pool.run(
        1000,
        [](void* given, int64_t, int) {
          auto& self = *static_cast<Context*>(given);
          self.runs++;
          self.cancelled = true;
        },
        &context, context.cancelled);
    CHECK(context.runs >= 1);
    CHECK(context.runs <= threads);
  }
}

TEST_CASE("thread_pool: the process's pool is one, and gone when nobody holds it") {
  std::weak_ptr<ThreadPool> seen;
  {
    const auto first = ThreadPool::shared(), second = ThreadPool::shared();
    CHECK(first == second);
    seen = first;
  }
  CHECK(seen.expired());
}
