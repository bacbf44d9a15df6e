// Page-locked host memory, and what goes through it to the GPU: copies of other host memory would make the host wait.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace foretoken::cuda {

struct FreePinned {
  void operator()(std::byte* bytes) const { cudaFreeHost(bytes); }
};
using Pinned = std::unique_ptr<std::byte, FreePinned>;

constexpr size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

// nullptr: no memory. May wait for the GPU.
Pinned allocate_pinned(size_t bytes);

// Bytes on their way to the GPU: a ring of segments, each written again once the GPU has passed what was sent from it.
class UploadRing {
 public:
  UploadRing() = default;
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;

  cudaError_t open();
  // Waits where what is on its way fills the ring.
  cudaError_t send(void* to, const void* from, size_t bytes, cudaStream_t stream);

 private:
  static constexpr size_t kSegments = 8, kSegmentBytes = 1 << 20;

  struct Segment {
    cudaEvent_t passed = nullptr;
    bool used = false;  // `passed` was recorded
  };
  cudaError_t next_segment(cudaStream_t stream);

  Pinned memory_;
  Segment segments_[kSegments];
  size_t segment_ = 0, used_ = 0;  // the one that is filled now, and its bytes so far
};

}  // namespace foretoken::cuda
