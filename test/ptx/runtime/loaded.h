// Kernels as loaded on one device: which image, its registers, and what the program set of it.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "executor.h"
#include "registry.h"

namespace foretoken::ptx::runtime {

// A fat binary on a device.
struct LoadedBinary {
  std::unique_ptr<Image> image;
  int ptx_version = 0;                        // 80: of the PTX that runs
  int binary_version = 0;                     // 80, 90: of the machine code the driver would run
  bool compiled_on_load = false;              // no machine code: the driver would compile the PTX
  std::map<std::string, uint32_t> registers;  // of the machine code, by kernel; empty: none for this device
};

struct LoadedKernel {
  const Kernel* kernel = nullptr;
  LoadedBinary* binary = nullptr;
  KernelInfo info;
  uint32_t registers = 0;             // per thread
  uint32_t max_dynamic_shared = 0;    // cudaFuncAttributeMaxDynamicSharedMemorySize
  bool non_portable_cluster = false;  // cudaFuncAttributeNonPortableClusterSizeAllowed
  int carveout = -1;
  Dimensions required_cluster{0, 0, 0};

  // Threads per block beyond which a launch fails: by launch bounds and registers.
  uint32_t max_threads() const;
};

class Loader {
 public:
  Loader(const Card& card, Executor& executor, Executor::Place place)
      : card_(card), executor_(executor), place_(std::move(place)) {}

  // Loads at the first use. Throws cudaErrorNoKernelImageForDevice when no image fits this device,
  // cudaErrorInvalidPtx when the image is not understood.
  LoadedKernel& kernel(const Kernel* kernel);
  Region variable(const DeviceVariable& variable);
  LoadedBinary& binary(FatBinary* binary);

 private:
  const Card& card_;
  Executor& executor_;
  Executor::Place place_;
  std::map<FatBinary*, LoadedBinary> binaries_;
  std::map<const Kernel*, LoadedKernel> kernels_;
};

}  // namespace foretoken::ptx::runtime
