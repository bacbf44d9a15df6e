// What a kernel is handed beside its arguments: workspace, threads (CPU), stream (CUDA).
#pragma once
#include <cstddef>
#include <cstdint>

namespace foretoken {

// The thread pool as per-level code sees it: plain function pointers.
// `run` calls body(context, task, worker) once for every task in [0, tasks), from `threads` workers, and returns when
// all are done. Which worker runs a task is left open, so results must depend on the task alone.
struct Parallel {
  int threads = 1;
  void (*run)(const Parallel&, int64_t tasks, void (*body)(void* context, int64_t task, int worker),
              void* context) = nullptr;
};

// What a workspace query may depend on beside the arguments, and a launch on.
struct Machine {
  int threads = 1;          // CPU
  int multiprocessors = 0;  // CUDA: decides how many blocks run at once, never what they compute
};

struct Call {
  const Parallel* parallel = nullptr;  // CPU
  void* stream = nullptr;              // CUDA: the cudaStream_t
  const Machine* machine = nullptr;    // given on CUDA
  void* workspace = nullptr;           // 64-byte aligned, contents undefined
  size_t workspace_bytes = 0;
};

// How the N columns of a packed weight are dealt out where few rows multiply it, a task each: columns of one. Whoever
// fetches ahead for a thread asks here too.
static inline int64_t share_columns(int64_t n, int threads) {
  constexpr int64_t kLeast = 32, kMost = 512;
  const int64_t each = (n + threads - 1) / threads, columns = (each + kLeast - 1) / kLeast * kLeast;
  return columns < kMost ? columns : kMost;
}

// body(task, worker) for every task in [0, tasks).
template <class Body>
static inline void parallel_for(const Call& call, int64_t tasks, Body body) {
  if (tasks <= 0) return;
  if (tasks == 1 || !call.parallel || call.parallel->threads == 1) {
    for (int64_t task = 0; task < tasks; task++) body(task, 0);
    return;
  }
  call.parallel->run(
      *call.parallel, tasks,
      [](void* context, int64_t task, int worker) { (*static_cast<Body*>(context))(task, worker); }, &body);
}

}  // namespace foretoken
