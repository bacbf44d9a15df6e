// Launches: checked against the card as the driver would, and made into work.
#pragma once
#include "runtime.h"

namespace foretoken::ptx::runtime {

struct LaunchRequest {
  const void* function = nullptr;  // host function or cudaKernel_t
  dim3 grid, block;
  dim3 cluster{0, 0, 0};  // 0: none asked for
  size_t dynamic_shared = 0;
  bool cooperative = false;
  void** arguments = nullptr;  // [parameters of the kernel]
};

void launch(Runtime& runtime, Lock& lock, Stream& stream, const LaunchRequest& request);

// Reads the attributes of a launch; throws for those that mean something else than what is done here.
LaunchRequest read_config(const cudaLaunchConfig_t& config, const void* function, void** arguments);

// Blocks of this kernel that fit on one SM at once; 0: not even one.
int blocks_per_sm(const Card& card, const LoadedKernel& kernel, int threads, size_t dynamic_shared);
// Dynamic shared memory that still lets so many blocks fit.
size_t available_dynamic_shared(const Card& card, const LoadedKernel& kernel, int blocks, int threads);

}  // namespace foretoken::ptx::runtime
