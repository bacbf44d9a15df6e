// Reads: from the GPU through page-locked memory to the reader, with nobody waiting.
#pragma once
#include <cuda_runtime_api.h>

#include <atomic>
#include <mutex>
#include <vector>

#include "../core/gpu.h"
#include "staging.h"

namespace foretoken::cuda {

// A ring whose parts are taken by the environment's thread and given back, in order, by the one that waits for them.
class DownloadRing {
 public:
  static constexpr size_t kBytes = 4 << 20, kLargest = 1 << 20;

  cudaError_t open();
  // nullptr when it is full. `end` is what to give back.
  std::byte* take(size_t bytes, uint64_t& end);
  void give_back(uint64_t end) { tail_.store(end, std::memory_order_release); }

 private:
  Pinned memory_;
  uint64_t head_ = 0;  // counts on: the place is the rest modulo kBytes
  std::atomic<uint64_t> tail_{0};
};

// A read on its way. What the GPU or the driver's threads still touch is here, so it outlives a device that goes.
struct Download {
  // A part of a large read, copied by a function that the stream calls between two parts.
  struct Part {
    Download* download;
    const std::byte* from;
    size_t offset, bytes;
  };

  cudaEvent_t passed = nullptr;
  Gpu::Done done;
  uint64_t serial = 0;  // what had been enqueued when it was

  // Copies bytes to the reader, unless the read was given up.
  void deliver(const std::byte* from, size_t offset, size_t bytes);
  // From now on nothing is written to the reader's memory.
  void give_up();

  std::mutex lock;
  std::byte* to = nullptr;  // guarded by `lock`; nullptr once given up

  const std::byte* staged = nullptr;  // in the ring; nullptr: in parts, or nothing but `done`
  uint64_t ring_end = 0;
  size_t bytes = 0;
  std::vector<Part> parts;

  ~Download() {
    if (passed) cudaEventDestroy(passed);
  }
};

// Small reads wait in the ring until they are finished. Others, and those that find it full, go part by part through
// one buffer: the stream itself keeps the parts apart.
class Downloads {
 public:
  cudaError_t open();
  // After an error some of it may have been enqueued: the download must live on.
  cudaError_t enqueue(Download& download, void* to, const void* from, size_t bytes, cudaStream_t stream);
  void finished(const Download& download) {
    if (download.staged) ring_.give_back(download.ring_end);
  }

 private:
  cudaError_t enqueue_parts(Download& download, const void* from, cudaStream_t stream);

  DownloadRing ring_;
  Pinned buffer_;
};

}  // namespace foretoken::cuda
