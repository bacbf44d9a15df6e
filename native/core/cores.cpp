#include "cores.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "cgroup.h"
#include "env.h"
#include "text_file.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace foretoken {

static int hardware_threads() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#if defined(__linux__)

// Two hardware threads of one core share its arithmetic units, so a core counts once.
static int physical_cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return hardware_threads();
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    cores.emplace(static_cast<int>(read_number(folder + "physical_package_id", 0)),
                  static_cast<int>(read_number(folder + "core_id", cpu)));
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

static double quota_of(const std::string& folder) {
  const std::string limit = read_text(folder + "/cpu.max");  // cgroup v2: "max 100000" where there is no limit
  double microseconds = -1, period = 0;
  if (std::sscanf(limit.c_str(), "%lf %lf", &microseconds, &period) < 2 && limit.empty()) {
    microseconds = read_number(folder + "/cpu.cfs_quota_us", -1);
    period = read_number(folder + "/cpu.cfs_period_us", 0);
  }
  return microseconds <= 0 || period <= 0 ? INFINITY : microseconds / period;
}

// The least quota, in cores, of this process's cgroup and those around it.
static double cgroup_quota() {
  double least = INFINITY;
  for (const std::string& folder : cgroup_folders("cpu")) least = std::min(least, quota_of(folder));
  return least;
}

#else

static int physical_cores() { return hardware_threads(); }
static double cgroup_quota() { return INFINITY; }

#endif

int thread_count() {
  if (const int wanted = env::threads()) return wanted;
  const double quota = cgroup_quota();
  const int cores = physical_cores();
  return quota < cores ? std::max(1, static_cast<int>(std::ceil(quota))) : cores;
}

}  // namespace foretoken
