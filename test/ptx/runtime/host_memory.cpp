#include "host_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace foretoken::ptx::runtime {
namespace {

constexpr size_t kPage = 4096;
// NaN as bf16, f16, f32 and f64; as integers out of any range that tokens, counts or flags have.
constexpr unsigned char kPoison[2] = {0xf5, 0xff};

}  // namespace

HostMemory::~HostMemory() {
  for (const auto& [start, range] : ranges_)
    if (!range.registered) std::free(const_cast<char*>(start));
}

void* HostMemory::allocate(size_t bytes, unsigned flags) {
  if (bytes == 0) return nullptr;
  void* pointer = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (!pointer) throw Error(cudaErrorMemoryAllocation, "no page-locked memory of " + std::to_string(bytes) + " bytes");
  ranges_[static_cast<char*>(pointer)] = {bytes, flags, false};
  poison(pointer, bytes);
  return pointer;
}

void HostMemory::free(void* pointer) {
  const auto found = ranges_.find(static_cast<char*>(pointer));
  if (found == ranges_.end() || found->second.registered)
    throw Error(cudaErrorInvalidValue, "not the start of page-locked memory");
  ranges_.erase(found);
  std::free(pointer);
}

void HostMemory::add(void* pointer, size_t bytes, unsigned flags) {
  require(pointer && bytes, cudaErrorInvalidValue, "nothing to register");
  const char* start = static_cast<char*>(pointer);
  for (const auto& [other, range] : ranges_)
    if (start < other + range.bytes && other < start + bytes)
      throw Error(cudaErrorHostMemoryAlreadyRegistered, "a part of it is page-locked already");
  ranges_[start] = {bytes, flags, true};
}

void HostMemory::remove(void* pointer) {
  const auto found = ranges_.find(static_cast<char*>(pointer));
  if (found == ranges_.end() || !found->second.registered)
    throw Error(cudaErrorHostMemoryNotRegistered, "not the start of registered memory");
  ranges_.erase(found);
}

const HostMemory::Range* HostMemory::find(const void* pointer) const {
  const char* at = static_cast<const char*>(pointer);
  auto next = ranges_.upper_bound(at);
  if (next == ranges_.begin()) return nullptr;
  --next;
  return static_cast<size_t>(at - next->first) < next->second.bytes ? &next->second : nullptr;
}

bool HostMemory::is_pinned(const void* pointer, size_t bytes) const {
  const char* at = static_cast<const char*>(pointer);
  const Range* range = find(pointer);
  return range && bytes <= static_cast<size_t>(std::prev(ranges_.upper_bound(at))->first + range->bytes - at);
}

unsigned HostMemory::flags(const void* pointer) const {
  const Range* range = find(pointer);
  if (!range) throw Error(cudaErrorInvalidValue, "not page-locked memory");
  return range->flags;
}

void HostMemory::begin_read(const void* from, size_t bytes) {
  const char* begin = static_cast<const char*>(from);
  reads_.push_back({begin, begin + bytes});
}

void HostMemory::end_read(const void* from, size_t bytes) {
  const char* begin = static_cast<const char*>(from);
  const auto same = [&](const Read& read) { return read.begin == begin && read.end == begin + bytes; };
  const auto found = std::find_if(reads_.begin(), reads_.end(), same);
  if (found != reads_.end()) reads_.erase(found);
}

void HostMemory::poison(void* to, size_t bytes) const {
  unsigned char* cells = static_cast<unsigned char*>(to);
  const char* begin = static_cast<const char*>(to);
  for (const Read& read : reads_)
    if (begin < read.end && read.begin < begin + bytes) return;
  for (size_t i = 0; i < bytes; i++) cells[i] = kPoison[i % 2];
}

}  // namespace foretoken::ptx::runtime
