// What core knows of backends: how to find one. Each backend's own folder defines these functions.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../kernels.h"
#include "failure.h"
#include "gpu.h"

namespace foretoken {

struct ProcessorInfo {
  std::string vendor, model;
  std::vector<std::string> levels;      // that this processor can run, slowest first
  std::vector<std::string> unrecorded;  // those among them that no full test pass is recorded for
  std::string default_level, reason;
};

ProcessorInfo processor_info();

// The CPU backend at this SIMD level; empty: FORETOKEN_SIMD's, or else the default one. nullptr sets the failure.
const Backend* find_cpu_backend(const std::string& level, Failure& failure);

// ---- GPUs. In a build without CUDA (no_gpu.cpp) there are none.

struct GpuReport {
  bool built = false;              // with the CUDA backend
  int driver = 0, runtime = 0;     // CUDA versions, 13000 is 13.0; driver 0: there is none
  std::vector<GpuInfo> gpus = {};  // that this process sees
  Failure failure = {};            // why none of them can be used; empty: one can
  bool expected = false;           // the machine looks as if a GPU was meant to work
};

// Looks again at each call: cheap, and starts nothing on a GPU.
GpuReport find_gpus();

// The GPU of this index, or nullptr and the failure. `sync`: each op is waited for.
std::unique_ptr<Gpu> open_gpu(int index, bool sync, Failure& failure);

// The kernels for the GPU of this index, or of an architecture level, "sm_80" or "sm_90", on any machine. nullptr sets
// the failure.
const Backend* find_cuda_backend(int index, Failure& failure);
const Backend* find_cuda_backend(const std::string& level, Failure& failure);
// How many multiprocessors a usual GPU of that level has: an A100, an H100.
int usual_multiprocessors(const std::string& level);

}  // namespace foretoken
