// What every calibration program needs: arrays on both sides, and an end with exit code 1 when something is wrong.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace calibration {

inline void require(bool condition, const char* what, const char* detail = "") {
  if (condition) return;
  std::printf("%s %s\n", what, detail);
  std::exit(1);
}
inline void require(cudaError_t error, const char* what) {
  require(error == cudaSuccess, what, cudaGetErrorString(error));
}

// What is wrong with a launch itself shows at once, what its kernel did wrong when it has run.
inline void finish(const char* what) {
  require(cudaGetLastError(), what);
  require(cudaDeviceSynchronize(), what);
}

template <class Element>
struct Buffer {
  explicit Buffer(size_t elements) : host(elements) {
    require(cudaMalloc(&device, elements * sizeof(Element)), "cudaMalloc");
  }
  ~Buffer() { cudaFree(device); }
  Buffer(const Buffer&) = delete;
  void to_device() {
    require(cudaMemcpy(device, host.data(), host.size() * sizeof(Element), cudaMemcpyHostToDevice),
            "copy to the device");
  }
  void to_host() {
    require(cudaMemcpy(host.data(), device, host.size() * sizeof(Element), cudaMemcpyDeviceToHost), "copy to the host");
  }
  // -range … range, the same in every run.
  void fill(uint32_t seed, int range) {
    uint32_t state = seed;
    for (Element& value : host) {
      state = state * 1664525u + 1013904223u;
      value = Element(static_cast<float>(static_cast<int>((state >> 8) % (2 * range + 1)) - range));
    }
    to_device();
  }
  std::vector<Element> host;
  Element* device = nullptr;
};

// One line per case: `found` has to be `expected`, element by element.
template <class Element>
void require_equal(const char* name, const std::vector<Element>& found, const std::vector<Element>& expected) {
  size_t wrong = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (found[i] == expected[i]) continue;
    if (wrong++ < 3)
      std::printf("%s: [%zu] is %.9g, not %.9g\n", name, i, static_cast<double>(found[i]),
                  static_cast<double>(expected[i]));
  }
  std::printf("%s, %zu: %s\n", name, expected.size(), wrong ? "WRONG" : "exact");
  require(wrong == 0, name, "differs from the host");
}

}  // namespace calibration
