// Reads that wait for the GPU: a thread looks whether it has passed them, finishes them in order and says so.
#pragma once
#include <cuda_runtime_api.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "downloads.h"

namespace foretoken::cuda {

class Completions {
 public:
  Completions(int device, Downloads& downloads) : device_(device), downloads_(downloads) {}
  ~Completions() { stop(); }

  void add(std::unique_ptr<Download> download);
  // Ends the thread. What it had not finished is given up, and returned.
  std::vector<std::unique_ptr<Download>> stop();

  // The serial of the last read that has been finished.
  uint64_t passed() const { return passed_.load(std::memory_order_acquire); }
  // What the GPU failed with; cudaSuccess as long as it works.
  cudaError_t failure() const { return failure_.load(std::memory_order_acquire); }

 private:
  void work();
  cudaError_t wait_for(cudaEvent_t event);
  void finish(Download& download, cudaError_t error);

  const int device_;
  Downloads& downloads_;
  std::mutex lock_;
  std::condition_variable arrived_;
  std::deque<std::unique_ptr<Download>> queue_;  // guarded by lock_
  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> passed_{0};
  std::atomic<cudaError_t> failure_{cudaSuccess};
  std::thread thread_;  // from the first read on
};

}  // namespace foretoken::cuda
