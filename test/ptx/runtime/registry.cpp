#include "registry.h"

namespace foretoken::ptx::runtime {

const std::vector<FatEntry>& FatBinary::entries() {
  if (!read_) entries_ = read_fat_binary(wrapper);
  read_ = true;
  return entries_;
}

Registry& Registry::instance() {
  static Registry* registry = new Registry;
  return *registry;
}

FatBinary* Registry::add(const void* wrapper) {
  const std::lock_guard lock(mutex_);
  FatBinary& binary = binaries_.emplace_back();
  binary.wrapper = wrapper;
  binary.self = &binary;
  return &binary;
}

void Registry::remove(FatBinary* binary) {
  const std::lock_guard lock(mutex_);
  std::erase_if(kernel_of_, [&](const auto& entry) { return entry.second->binary == binary; });
  std::erase_if(variables_, [&](const auto& entry) { return entry.second.binary == binary; });
}

void Registry::add_kernel(FatBinary* binary, const void* host, const char* name) {
  const std::lock_guard lock(mutex_);
  Kernel& kernel = kernels_.emplace_back(Kernel{binary, name});
  kernel_of_[host] = kernel_of_[&kernel] = &kernel;
}

void Registry::add_variable(FatBinary* binary, const void* host, const char* name, size_t bytes, bool constant) {
  const std::lock_guard lock(mutex_);
  variables_[host] = {binary, name, bytes, constant};
}

Kernel* Registry::kernel(const void* host_or_handle) {
  const std::lock_guard lock(mutex_);
  const auto found = kernel_of_.find(host_or_handle);
  if (found == kernel_of_.end())
    throw Error(cudaErrorInvalidDeviceFunction, "not a kernel of any object that is linked with this runtime");
  return found->second;
}

const DeviceVariable& Registry::variable(const void* host) {
  const std::lock_guard lock(mutex_);
  const auto found = variables_.find(host);
  if (found == variables_.end()) throw Error(cudaErrorInvalidSymbol, "not a variable of the device");
  return found->second;
}

}  // namespace foretoken::ptx::runtime
