#include "range.h"

#include <cuda_runtime_api.h>

#include "retired.h"

namespace foretoken::cuda {

// ---- the driver's part ---------------------------------------------------------------------------------------------

template <class Function>
static bool find(Function& function, const char* name) {
  constexpr unsigned kVersion = 10020;  // CUDA 10.2 brought them all
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result) != cudaSuccess) return false;
  function = reinterpret_cast<Function>(found);
  return result == cudaDriverEntryPointSuccess && found;
}

static CUmemAllocationProp memory_on(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

static bool load(VirtualMemory& driver) {
  return find(driver.address_reserve, "cuMemAddressReserve") && find(driver.address_free, "cuMemAddressFree") &&
         find(driver.create, "cuMemCreate") && find(driver.release, "cuMemRelease") && find(driver.map, "cuMemMap") &&
         find(driver.unmap, "cuMemUnmap") && find(driver.set_access, "cuMemSetAccess") &&
         find(driver.granularity, "cuMemGetAllocationGranularity");
}

const VirtualMemory* virtual_memory(int device) {
  static VirtualMemory driver;
  static const bool loaded = load(driver);
  size_t granularity = 0;
  const CUmemAllocationProp properties = memory_on(device);
  const bool fits = loaded &&
                    driver.granularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS &&
                    granularity > 0 && kGpuPage % granularity == 0;
  cudaGetLastError();  // of looking
  return fits ? &driver : nullptr;
}

// ---- the range -----------------------------------------------------------------------------------------------------

uintptr_t DeviceRange::reserve(int64_t bytes) {
  bytes_ = static_cast<size_t>(bytes);
  return driver_.address_reserve(&base_, bytes_, kGpuPage, 0, 0) == CUDA_SUCCESS ? base_ : 0;
}

DeviceRange::~DeviceRange() {
  for (size_t page = 0; page < pages_.size(); page++)
    if (pages_[page]) unmap(page);
  if (base_) driver_.address_free(base_, bytes_);
}

bool DeviceRange::grow(int64_t, int64_t to) {
  pages_.resize(static_cast<size_t>(to / kGpuPage));
  return true;
}

bool DeviceRange::populate(int64_t offset, int64_t bytes) {
  const auto first = static_cast<size_t>(offset / kGpuPage), last = static_cast<size_t>((offset + bytes) / kGpuPage);
  return populate_once(first, last) || (free_retired(true) && populate_once(first, last));
}

// All of the pages [first, last), or none that was not there.
bool DeviceRange::populate_once(size_t first, size_t last) {
  std::vector<size_t> mapped;
  bool fits = true;
  for (size_t page = first; fits && page < last; page++) {
    if (pages_[page]) continue;
    fits = map(page);
    if (fits) mapped.push_back(page);
  }
  if (fits && (mapped.empty() || make_accessible(mapped.front(), mapped.back() + 1))) return true;
  for (const size_t page : mapped) unmap(page);
  return false;
}

bool DeviceRange::map(size_t page) {
  const CUmemAllocationProp properties = memory_on(device_);
  Page created = 0;
  if (driver_.create(&created, kGpuPage, &properties, 0) != CUDA_SUCCESS) return false;
  if (driver_.map(address(page), kGpuPage, 0, created, 0) != CUDA_SUCCESS) {
    driver_.release(created);
    return false;
  }
  pages_[page] = created;
  return true;
}

void DeviceRange::unmap(size_t page) {
  driver_.unmap(address(page), kGpuPage);
  driver_.release(pages_[page]);
  pages_[page] = 0;
}

// Also of pages that were resident before: all of [first, last) are.
bool DeviceRange::make_accessible(size_t first, size_t last) {
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device_;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return driver_.set_access(address(first), (last - first) * kGpuPage, &access, 1) == CUDA_SUCCESS;
}

void DeviceRange::drop(int64_t offset, int64_t bytes) {
  const auto first = static_cast<size_t>(offset / kGpuPage), last = static_cast<size_t>((offset + bytes) / kGpuPage);
  for (size_t page = first; page < last && page < pages_.size(); page++)
    if (pages_[page]) unmap(page);
}

}  // namespace foretoken::cuda
