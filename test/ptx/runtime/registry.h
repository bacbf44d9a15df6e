// What the objects linked with the runtime registered: fat binaries, and in them kernels and variables by the host
// address that stands for them. Kept for the life of the process, since compiled code holds pointers to kernels.
#pragma once
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "error.h"
#include "fatbin.h"

namespace foretoken::ptx::runtime {

struct FatBinary {
  const void* wrapper = nullptr;
  void* self = nullptr;  // __cudaRegisterFatBinary returns a void**
  // Read at the first use.
  const std::vector<FatEntry>& entries();

 private:
  bool read_ = false;
  std::vector<FatEntry> entries_;
};

struct Kernel {
  FatBinary* binary = nullptr;
  std::string name;  // mangled
};

struct DeviceVariable {
  FatBinary* binary = nullptr;
  std::string name;
  size_t bytes = 0;
  bool constant = false;
};

class Registry {
 public:
  // Never destroyed: objects unregister while the process ends, in any order.
  static Registry& instance();

  FatBinary* add(const void* wrapper);
  void remove(FatBinary* binary);
  void add_kernel(FatBinary* binary, const void* host, const char* name);
  void add_variable(FatBinary* binary, const void* host, const char* name, size_t bytes, bool constant);

  // By the host function's address, or a cudaKernel_t. Throws cudaErrorInvalidDeviceFunction.
  Kernel* kernel(const void* host_or_handle);
  // Throws cudaErrorInvalidSymbol.
  const DeviceVariable& variable(const void* host);

 private:
  std::mutex mutex_;  // objects may be loaded while others run
  std::deque<FatBinary> binaries_;
  std::deque<Kernel> kernels_;
  std::map<const void*, Kernel*> kernel_of_;  // host addresses and handles
  std::map<const void*, DeviceVariable> variables_;
};

}  // namespace foretoken::ptx::runtime
