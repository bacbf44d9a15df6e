// What a kernel tells of itself: printf and assert. Runs with PTX_SANITIZE=memory: to the whole sanitizer a printf is a
// fault.
#undef NDEBUG
#include <unistd.h>

#include <cassert>
#include <string>

#include "check.h"

using namespace calibration;

namespace {

__global__ void print(int value) {
  if (threadIdx.x == 3)
    printf("thread %d: %s %5.2f %lld %c %#x\n", threadIdx.x, "text", value * 0.5, 1ll << 40, 'x', value);
}

// What `work` writes to the standard output.
template <class Work>
std::string output_of(Work work) {
  std::FILE* file = std::tmpfile();
  std::fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  dup2(fileno(file), STDOUT_FILENO);
  work();
  std::fflush(stdout);
  dup2(kept, STDOUT_FILENO);
  close(kept);
  std::rewind(file);
  char text[200] = {};
  const size_t length = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  return {text, length};
}

void check_printf() {
  const std::string found = output_of([] {
    print<<<1, 32>>>(5);
    finish("printf");
  });
  require(found == "thread 3: text  2.50 1099511627776 x 0x5\n", "printf wrote", found.c_str());
  std::printf("printf: exact\n");
}

__global__ void assert_less(const int* limit) { assert(static_cast<int>(threadIdx.x) < *limit); }

// The failure stays with the device from then on: nothing can follow this.
void check_assert() {
  Buffer<int> limit(1);
  limit.host[0] = 40;
  limit.to_device();
  assert_less<<<1, 40>>>(limit.device);
  finish("assert that holds");
  assert_less<<<1, 41>>>(limit.device);
  require(cudaDeviceSynchronize() == cudaErrorAssert, "assert that does not hold");
  require(cudaMemset(limit.device, 0, 4) == cudaErrorAssert, "call after an assert");
  std::printf("assert: reported\n");
}

}  // namespace

int main() {
  check_printf();
  check_assert();
}
