// A build without CUDA.
#ifndef FORETOKEN_CUDA
#include "backends.h"

namespace foretoken {

static Failure not_built() {
  return {.code = "NO_DEVICE",
          .op = "openDevice",
          .text = "this build has no CUDA backend",
          .remedy = "In a clone of the repository, `npm run build:cuda` builds one."};
}

GpuReport find_gpus() { return {.failure = not_built()}; }

std::unique_ptr<Gpu> open_gpu(int, bool, Failure& failure) {
  failure = not_built();
  return nullptr;
}

const Backend* find_cuda_backend(int, Failure& failure) {
  failure = not_built();
  return nullptr;
}

const Backend* find_cuda_backend(const std::string&, Failure& failure) { return find_cuda_backend(0, failure); }

int usual_multiprocessors(const std::string&) { return 0; }

}  // namespace foretoken
#endif
