#include "virtual_memory.h"

#include <iterator>

#include "device_memory.h"

namespace foretoken::ptx::runtime {
namespace {

bool whole(uint64_t bytes) { return bytes && bytes % VirtualMemory::kGranularity == 0; }

}  // namespace

uint64_t VirtualMemory::reserve(DeviceMemory& memory, uint64_t bytes, uint64_t alignment) {
  require(whole(bytes), cudaErrorInvalidValue, "reservations are multiples of the granularity");
  const uint64_t address = memory.space().take(bytes, alignment > kGranularity ? alignment : kGranularity);
  require(address != 0, cudaErrorMemoryAllocation, "no addresses are left");
  reservations_[address] = bytes;
  return address;
}

void VirtualMemory::free_reservation(DeviceMemory& memory, uint64_t address, uint64_t bytes) {
  const auto found = reservations_.find(address);
  require(found != reservations_.end() && found->second == bytes, cudaErrorInvalidValue, "not a reservation");
  const auto mapping = mappings_.lower_bound(address);
  require(mapping == mappings_.end() || mapping->first >= address + bytes, cudaErrorInvalidValue,
          "memory is still mapped in the reservation");
  reservations_.erase(found);
  memory.space().give_back(address);
}

uint64_t VirtualMemory::create(DeviceMemory& memory, uint64_t bytes) {
  require(whole(bytes), cudaErrorInvalidValue, "physical memory is a multiple of the granularity");
  memory.charge(bytes);
  physical_[++handles_] = {bytes, 0, false};
  return handles_;
}

void VirtualMemory::release(DeviceMemory& memory, uint64_t handle) {
  const auto found = physical_.find(handle);
  require(found != physical_.end() && !found->second.released, cudaErrorInvalidValue, "not a handle of memory");
  found->second.released = true;
  drop_if_unused(memory, handle);
}

void VirtualMemory::drop_if_unused(DeviceMemory& memory, uint64_t handle) {
  const auto found = physical_.find(handle);
  if (!found->second.released || found->second.mapped_at) return;
  memory.refund(found->second.bytes);
  physical_.erase(found);
}

void VirtualMemory::map(uint64_t address, uint64_t bytes, uint64_t offset, uint64_t handle) {
  const auto found = physical_.find(handle);
  require(found != physical_.end(), cudaErrorInvalidValue, "not a handle of memory");
  Physical& physical = found->second;
  require(offset == 0 && bytes == physical.bytes, cudaErrorNotSupported, "a part of a handle cannot be mapped here");
  require(!physical.mapped_at, cudaErrorNotSupported, "a handle cannot be mapped twice here");
  auto reservation = reservations_.upper_bound(address);
  const bool inside = reservation != reservations_.begin() && (--reservation, true) &&
                      address + bytes <= reservation->first + reservation->second;
  require(inside && address % kGranularity == 0, cudaErrorInvalidValue, "not within a reservation");
  const auto next = mappings_.lower_bound(address);
  const bool free = (next == mappings_.end() || next->first >= address + bytes) &&
                    (next == mappings_.begin() || std::prev(next)->first + std::prev(next)->second.bytes <= address);
  require(free, cudaErrorInvalidValue, "something is mapped there already");
  physical.mapped_at = address;
  mappings_[address] = {bytes, handle, false};
}

void VirtualMemory::unmap(DeviceMemory& memory, uint64_t address, uint64_t bytes) {
  const uint64_t end = address + bytes;
  for (auto mapping = mappings_.lower_bound(address); address < end; mapping = mappings_.erase(mapping)) {
    require(mapping != mappings_.end() && mapping->first == address && address + mapping->second.bytes <= end,
            cudaErrorInvalidValue, "not what was mapped");
    const uint64_t handle = mapping->second.handle;
    if (mapping->second.accessible) memory.unmap(address);
    physical_.at(handle).mapped_at = 0;
    drop_if_unused(memory, handle);
    address += mapping->second.bytes;
  }
}

void VirtualMemory::set_access(DeviceMemory& memory, uint64_t address, uint64_t bytes, bool accessible) {
  const uint64_t end = address + bytes;
  for (auto mapping = mappings_.lower_bound(address); address < end; ++mapping) {
    require(mapping != mappings_.end() && mapping->first == address && address + mapping->second.bytes <= end,
            cudaErrorInvalidValue, "not what was mapped");
    if (accessible && !mapping->second.accessible) memory.map(address, mapping->second.bytes);
    require(accessible || !mapping->second.accessible, cudaErrorNotSupported, "access cannot be taken back here");
    mapping->second.accessible = accessible;
    address += mapping->second.bytes;
  }
}

}  // namespace foretoken::ptx::runtime
