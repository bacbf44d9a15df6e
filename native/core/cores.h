// How many threads are worth having.
#pragma once

namespace foretoken {

// FORETOKEN_THREADS, or the physical cores that this process may run on, no more than its cgroup's quota of CPU time.
int thread_count();

}  // namespace foretoken
