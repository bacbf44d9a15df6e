// Everything that can be set from outside, read from the environment in one place.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace foretoken::ptx::runtime {

// When work that has been enqueued runs.
enum class Schedule {
  lazy,   // when something waits for it, and only as far as that needs
  eager,  // as soon as it is enqueued
  mixed,  // now and then, on a stream that the seed picks
};

// What is looked for while kernels run, beyond what stops them in any case (bounds, alignment, undefined decisions).
enum class Sanitize {
  off,
  memory,  // undefined values that reach the host
  full,    // and accesses without an order, missing fences and waits, device printf
};

struct Settings {
  int architecture = 80;               // PTX_DEVICE=sm_80 | sm_89 | sm_90 | sm_100 | sm_120
  int sm_count = 4;                    // PTX_SMS: few, so that persistent kernels go round and barrier phases wrap
  uint64_t memory_bytes = 8ull << 30;  // PTX_MEMORY; only pages that are touched cost anything
  int device_count = 1;                // PTX_DEVICES; 0: there is a driver but no device
  int driver_version = 13000;          // PTX_DRIVER as in cudaDriverGetVersion; 0: no driver
  uint64_t seed = 1;                   // PTX_SEED: schedules, orders, completions
  bool dry = false;                    // PTX_DRY=1: launches are recorded, nothing is computed
  std::string report;                  // PTX_REPORT: a file that gets a line of JSON with the counters of each launch
  bool strict = false;                 // PTX_STRICT=1: a call that is not implemented ends the process
  Schedule schedule = Schedule::lazy;  // PTX_EAGER=0 | 1, otherwise drawn by the seed; seed 1 is lazy
  // What hardware may do otherwise than the plain reading of PTX; results must stay within tolerances.
  bool fuse = false;                   // PTX_FUSE=1: single-use multiplications into additions
  bool perturb = false;                // PTX_PERTURB=1: approximate instructions within their documented error
  bool truncate = false;               // PTX_TRUNCATE=1: tensor products add with aligned truncation
  Sanitize sanitize = Sanitize::full;  // PTX_SANITIZE=off | memory | full
  std::vector<int> visible_devices;    // after CUDA_VISIBLE_DEVICES: visible_devices[ordinal] = index on the machine
};

// Throws std::invalid_argument naming the variable and what it may be.
Settings read_settings();

}  // namespace foretoken::ptx::runtime
