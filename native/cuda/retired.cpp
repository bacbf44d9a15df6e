#include "retired.h"

#include <list>
#include <mutex>

namespace foretoken::cuda {

namespace {

struct Retired {
  int device;
  cudaEvent_t passed;
  std::function<void()> free_all;
};

struct List {
  std::mutex lock;
  std::list<Retired> entries;
};

// Never destroyed: at the end of the process the driver takes everything back.
List& list() {
  static List& made = *new List;
  return made;
}

class CurrentGpu {
 public:
  CurrentGpu() { cudaGetDevice(&before_); }
  ~CurrentGpu() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

}  // namespace

void retire(int device, cudaStream_t stream, std::function<void()> free_all) {
  cudaSetDevice(device);
  Retired retired{device, nullptr, std::move(free_all)};
  cudaEventCreateWithFlags(&retired.passed, cudaEventDisableTiming);
  cudaEventRecord(retired.passed, stream);
  std::lock_guard guard(list().lock);
  list().entries.push_back(std::move(retired));
}

bool free_retired(bool wait) {
  const CurrentGpu current;
  std::lock_guard guard(list().lock);
  bool any = false;
  for (auto at = list().entries.begin(); at != list().entries.end();) {
    cudaSetDevice(at->device);
    const cudaError_t state = wait ? cudaEventSynchronize(at->passed) : cudaEventQuery(at->passed);
    if (state == cudaErrorNotReady) {
      ++at;
      continue;
    }
    at->free_all();
    cudaEventDestroy(at->passed);
    at = list().entries.erase(at);
    any = true;
  }
  cudaGetLastError();  // "not ready" is no error of anyone
  return any;
}

}  // namespace foretoken::cuda
