#include "loaded.h"

#include <algorithm>
#include <cstdio>

#include "cubin.h"

namespace foretoken::ptx::runtime {
namespace {

constexpr uint32_t kRegisterUnit = 256;  // registers are given to warps in units of this
constexpr uint32_t kWarp = 32;

// Host code knows of it only that "a PTX JIT compilation failed".
[[noreturn]] void not_understood(const std::exception& error) {
  std::fprintf(stderr, "[ptx] %s\n", error.what());
  throw Error(cudaErrorInvalidPtx, error.what());
}

std::string object_name(const FatEntry& entry) { return entry.name + " (compute" + entry.target().substr(2) + ")"; }

}  // namespace

uint32_t LoadedKernel::max_threads() const {
  uint32_t threads = kMaxThreadsPerBlock;
  if (info.max_threads) threads = std::min(threads, info.max_threads);
  if (registers) {
    const uint32_t per_warp = (registers * kWarp + kRegisterUnit - 1) / kRegisterUnit * kRegisterUnit;
    // Warps are spread over the four quarters of an SM, each with a quarter of the registers.
    threads = std::min(threads, kRegistersPerSm / per_warp / 4 * 4 * kWarp);
  }
  return threads;
}

LoadedBinary& Loader::binary(FatBinary* binary) {
  const auto found = binaries_.find(binary);
  if (found != binaries_.end()) return found->second;
  try {
    const std::vector<FatEntry>& entries = binary->entries();
    const int version = card_.architecture.version();
    const FatEntry* ptx = choose(entries, FatEntry::Kind::ptx, version);
    const FatEntry* code = choose(entries, FatEntry::Kind::machine_code, version);
    if (!ptx)
      throw Error(cudaErrorNoKernelImageForDevice,
                  std::string(code ? "there is machine code but no PTX" : "no image") + " for sm_" +
                      std::to_string(version) + (entries.empty() ? "" : " in " + entries[0].name + ", which has ") +
                      describe(entries));
    LoadedBinary loaded;
    loaded.image = executor_.load(contents(*ptx), object_name(*ptx), place_);
    loaded.ptx_version = ptx->architecture;
    loaded.binary_version = code ? code->architecture : version;
    loaded.compiled_on_load = !code;
    if (code) loaded.registers = registers_of_kernels(contents(*code));
    return binaries_.emplace(binary, std::move(loaded)).first->second;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    not_understood(error);
  }
}

LoadedKernel& Loader::kernel(const Kernel* kernel) {
  const auto found = kernels_.find(kernel);
  if (found != kernels_.end()) return found->second;
  LoadedBinary& loaded = binary(kernel->binary);
  const KernelInfo* info = nullptr;
  try {
    info = loaded.image->kernel(kernel->name);
  } catch (const std::exception& error) {
    not_understood(error);
  }
  if (!info) throw Error(cudaErrorInvalidDeviceFunction, kernel->name + " is not in the image for this device");
  LoadedKernel made;
  made.kernel = kernel;
  made.binary = &loaded;
  made.info = *info;
  made.required_cluster = info->required_cluster;
  const auto registers = loaded.registers.find(kernel->name);
  made.registers = registers == loaded.registers.end() ? info->registers : registers->second;
  // Without an opt-in, static and dynamic shared memory together are held to what every card has.
  made.max_dynamic_shared = kSharedBytesByDefault - std::min(kSharedBytesByDefault, info->static_shared_bytes);
  return kernels_.emplace(kernel, std::move(made)).first->second;
}

Region Loader::variable(const DeviceVariable& variable) {
  const auto region = binary(variable.binary).image->variable(variable.name);
  if (!region) throw Error(cudaErrorInvalidSymbol, variable.name + " is not in the image for this device");
  return *region;
}

}  // namespace foretoken::ptx::runtime
