// A range of device addresses that gets memory page by page, through the driver's virtual memory functions.
#pragma once
#include <cuda.h>
#include <cudaTypedefs.h>

#include <memory>
#include <vector>

#include "../core/gpu.h"

namespace foretoken::cuda {

// Of the driver, which is only there at run time.
struct VirtualMemory {
  PFN_cuMemAddressReserve_v10020 address_reserve = nullptr;
  PFN_cuMemAddressFree_v10020 address_free = nullptr;
  PFN_cuMemCreate_v10020 create = nullptr;
  PFN_cuMemRelease_v10020 release = nullptr;
  PFN_cuMemMap_v10020 map = nullptr;
  PFN_cuMemUnmap_v10020 unmap = nullptr;
  PFN_cuMemSetAccess_v10020 set_access = nullptr;
  PFN_cuMemGetAllocationGranularity_v10020 granularity = nullptr;
};

// nullptr where this driver or GPU cannot map pages of kGpuPage. The GPU must be the thread's current one.
const VirtualMemory* virtual_memory(int device);

// All calls with its GPU current.
class DeviceRange final : public Backing {
 public:
  DeviceRange(const VirtualMemory& driver, int device) : driver_(driver), device_(device) {}
  // The GPU must have finished with it.
  ~DeviceRange() override;

  int64_t page_bytes() const override { return kGpuPage; }
  uintptr_t reserve(int64_t bytes) override;
  bool grow(int64_t from, int64_t to) override;
  bool populate(int64_t offset, int64_t bytes) override;
  void drop(int64_t offset, int64_t bytes) override;

 private:
  using Page = CUmemGenericAllocationHandle;

  bool populate_once(size_t first, size_t last);
  bool map(size_t page);
  void unmap(size_t page);
  bool make_accessible(size_t first, size_t last);
  CUdeviceptr address(size_t page) const { return base_ + page * kGpuPage; }

  const VirtualMemory& driver_;
  const int device_;
  CUdeviceptr base_ = 0;
  size_t bytes_ = 0;
  std::vector<Page> pages_;  // 0: not resident
};

}  // namespace foretoken::cuda
