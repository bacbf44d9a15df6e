#include "device_memory.h"

#include <algorithm>

namespace foretoken::ptx::runtime {
namespace {

// All that cudaMalloc promises. Addresses are aligned to no more, so that code which counts on more is found out.
constexpr uint64_t kAlignment = 256;
// The driver hands out memory in units of this.
constexpr uint64_t kUnit = 512;

uint64_t rounded(uint64_t bytes) { return (bytes + kUnit - 1) / kUnit * kUnit; }

}  // namespace

uint64_t DeviceMemory::allocate(uint64_t bytes, const std::shared_ptr<Pool>& pool) {
  if (bytes == 0) return 0;
  const uint64_t unit_bytes = rounded(bytes);
  if (unit_bytes < bytes || (pool && pool->max_bytes && pool->used + unit_bytes > pool->max_bytes))
    throw Error(cudaErrorMemoryAllocation, "more than the memory pool may hold");
  const uint64_t from_cache = pool ? std::min(unit_bytes, pool->reserved - pool->used) : 0;
  cached_ -= from_cache;
  try {
    charge(unit_bytes);
  } catch (const Error&) {
    cached_ += from_cache;
    throw;
  }
  const uint64_t place = space_.take(bytes + kAlignment, 2 * kAlignment);
  if (!place) throw Error(cudaErrorMemoryAllocation, "no addresses are left");
  if (pool) {
    pool->used += unit_bytes;
    pool->reserved = std::max(pool->reserved, pool->used);
    pool->used_peak = std::max(pool->used_peak, pool->used);
    pool->reserved_peak = std::max(pool->reserved_peak, pool->reserved);
  }
  const uint64_t address = place + kAlignment;
  allocations_[address] = {bytes, Kind::allocation, pool};
  live_++;
  if (executor_) executor_->map(address, bytes, "no. " + std::to_string(++number_) + ",");
  return address;
}

void DeviceMemory::charge(uint64_t bytes) {
  if (bytes > limit_ || reserved() > limit_ - bytes)
    throw Error(cudaErrorMemoryAllocation, std::to_string(bytes) + " bytes asked for, " +
                                               std::to_string(limit_ - std::min(limit_, reserved())) + " of " +
                                               std::to_string(limit_) + " are free");
  used_ += bytes;
  peak_ = std::max(peak_, used_);
}

void DeviceMemory::retire(uint64_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || found->second.kind != Kind::allocation)
    throw Error(cudaErrorInvalidValue, "freed a pointer that is not the start of an allocation");
  Allocation& allocation = found->second;
  require(!allocation.retired, cudaErrorInvalidValue, "freed twice");
  allocation.retired = true;
  const uint64_t bytes = rounded(allocation.bytes);
  used_ -= bytes;
  deferred_ += bytes;
  if (allocation.pool) {
    allocation.pool->used -= bytes;
    cached_ += bytes;
    if (allocation.pool->destroyed) trim(*allocation.pool, 0);
  }
}

void DeviceMemory::release(uint64_t address) {
  if (executor_) executor_->unmap(address);
  const auto found = allocations_.find(address);
  deferred_ -= rounded(found->second.bytes);
  allocations_.erase(found);
  space_.give_back(address - kAlignment);
  live_--;
}

void DeviceMemory::forbid(uint64_t address, uint64_t bytes) {
  check(address, bytes, "what is to be forbidden");
  if (executor_) executor_->forbid(address, bytes);
}

void DeviceMemory::map(uint64_t address, uint64_t bytes) {
  if (executor_) executor_->map(address, bytes, "no. " + std::to_string(++number_) + ",");
  allocations_[address] = {bytes, Kind::mapping, nullptr};
}

void DeviceMemory::unmap(uint64_t address) {
  if (executor_) executor_->unmap(address);
  allocations_.erase(address);
}

uint64_t DeviceMemory::place_variable(uint64_t bytes, uint64_t alignment) {
  const uint64_t address = space_.take(bytes, alignment);
  if (address) allocations_[address] = {bytes, Kind::variable, nullptr};
  return address;
}

void DeviceMemory::trim(Pool& pool, uint64_t keep) {
  const uint64_t reserved = std::max(pool.used, std::min(pool.reserved, keep));
  cached_ -= pool.reserved - reserved;
  pool.reserved = reserved;
}

DeviceMemory::Iterator DeviceMemory::holder(uint64_t address) const {
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return allocations_.end();
  --next;
  return address - next->first < next->second.bytes ? next : allocations_.end();
}

Region DeviceMemory::find(uint64_t address) const {
  const auto found = holder(address);
  return found == allocations_.end() ? Region() : Region{found->first, found->second.bytes};
}

void DeviceMemory::check(uint64_t address, uint64_t bytes, const char* what) const {
  const uint64_t end = address + bytes;
  while (address < end) {
    const auto found = holder(address);
    if (found == allocations_.end()) throw Error(cudaErrorInvalidValue, std::string(what) + " is not allocated");
    if (found->second.retired) throw Error(cudaErrorInvalidValue, std::string(what) + " was freed before");
    address = found->first + found->second.bytes;
    if (address < end && found->second.kind != Kind::mapping)
      throw Error(cudaErrorInvalidValue, std::string(what) + " reaches beyond the end of its allocation");
  }
}

}  // namespace foretoken::ptx::runtime
