#include "downloads.h"

#include <algorithm>
#include <cstring>

#include "errors.h"

namespace foretoken::cuda {

// ---- the ring ------------------------------------------------------------------------------------------------------

cudaError_t DownloadRing::open() {
  memory_ = allocate_pinned(kBytes);
  return memory_ ? cudaSuccess : cudaErrorMemoryAllocation;
}

std::byte* DownloadRing::take(size_t bytes, uint64_t& end) {
  const size_t place = head_ % kBytes, room = kBytes - place;
  const uint64_t start = bytes <= room ? head_ : head_ + room;  // a part does not go round the end
  end = start + round_up(bytes);
  if (end - tail_.load(std::memory_order_acquire) > kBytes) return nullptr;
  head_ = end;
  return memory_.get() + start % kBytes;
}

// ---- a read --------------------------------------------------------------------------------------------------------

void Download::deliver(const std::byte* from, size_t offset, size_t count) {
  std::lock_guard guard(lock);
  if (to) std::memcpy(to + offset, from, count);
}

void Download::give_up() {
  std::lock_guard guard(lock);
  to = nullptr;
}

// ---- all of them ---------------------------------------------------------------------------------------------------

constexpr size_t kPartBytes = 4 << 20;

cudaError_t Downloads::open() {
  buffer_ = allocate_pinned(kPartBytes);
  return buffer_ ? ring_.open() : cudaErrorMemoryAllocation;
}

cudaError_t Downloads::enqueue(Download& download, void* to, const void* from, size_t bytes, cudaStream_t stream) {
  download.to = static_cast<std::byte*>(to);
  download.bytes = bytes;
  std::byte* staged = nullptr;
  if (bytes && bytes <= DownloadRing::kLargest) staged = ring_.take(bytes, download.ring_end);
  download.staged = staged;
  Steps steps;
  steps.then(cudaEventCreateWithFlags, &download.passed, cudaEventDisableTiming);
  if (staged)
    steps.then(cudaMemcpyAsync, staged, from, bytes, cudaMemcpyDeviceToHost, stream);
  else if (bytes && !steps.error)
    steps.error = enqueue_parts(download, from, stream);
  return steps.then(cudaEventRecord, download.passed, stream).error;
}

static void deliver_part(void* data) {
  const auto& part = *static_cast<const Download::Part*>(data);
  part.download->deliver(part.from, part.offset, part.bytes);
}

cudaError_t Downloads::enqueue_parts(Download& download, const void* from, cudaStream_t stream) {
  std::byte* buffer = buffer_.get();
  download.parts.reserve((download.bytes + kPartBytes - 1) / kPartBytes);  // the driver holds their addresses
  Steps steps;
  for (size_t offset = 0; offset < download.bytes && !steps.error; offset += kPartBytes) {
    const size_t bytes = std::min(kPartBytes, download.bytes - offset);
    download.parts.push_back({&download, buffer, offset, bytes});
    const std::byte* source = static_cast<const std::byte*>(from) + offset;
    steps.then(cudaMemcpyAsync, buffer, source, bytes, cudaMemcpyDeviceToHost, stream)
        .then(cudaLaunchHostFunc, stream, deliver_part, &download.parts.back());
  }
  return steps.error;
}

}  // namespace foretoken::cuda
