#include "staging.h"

#include <algorithm>
#include <cstring>

#include "errors.h"

namespace foretoken::cuda {

Pinned allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  if (cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), cudaHostAllocDefault) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return Pinned(static_cast<std::byte*>(memory));
}

cudaError_t UploadRing::open() {
  memory_ = allocate_pinned(kSegments * kSegmentBytes);
  if (!memory_) return cudaErrorMemoryAllocation;
  Steps steps;
  for (Segment& segment : segments_) steps.then(cudaEventCreateWithFlags, &segment.passed, cudaEventDisableTiming);
  return steps.error;
}

UploadRing::~UploadRing() {
  for (const Segment& segment : segments_)
    if (segment.passed) cudaEventDestroy(segment.passed);
}

cudaError_t UploadRing::next_segment(cudaStream_t stream) {
  segments_[segment_].used = true;
  if (const cudaError_t error = cudaEventRecord(segments_[segment_].passed, stream)) return error;
  segment_ = (segment_ + 1) % kSegments;
  used_ = 0;
  return segments_[segment_].used ? cudaEventSynchronize(segments_[segment_].passed) : cudaSuccess;
}

cudaError_t UploadRing::send(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  for (size_t sent = 0; sent < bytes && !error;) {
    if (used_ >= kSegmentBytes) error = next_segment(stream);
    if (error) break;
    const size_t part = std::min(bytes - sent, kSegmentBytes - used_);
    std::byte* staged = memory_.get() + segment_ * kSegmentBytes + used_;
    std::memcpy(staged, static_cast<const std::byte*>(from) + sent, part);
    error = cudaMemcpyAsync(static_cast<std::byte*>(to) + sent, staged, part, cudaMemcpyHostToDevice, stream);
    sent += part;
    used_ += round_up(part);
  }
  return error;
}

}  // namespace foretoken::cuda
