#include "completions.h"

#include <sys/prctl.h>

#include <chrono>
#include <utility>

#include "errors.h"

namespace foretoken::cuda {

void Completions::add(std::unique_ptr<Download> download) {
  {
    std::lock_guard guard(lock_);
    queue_.push_back(std::move(download));
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  arrived_.notify_one();
}

std::vector<std::unique_ptr<Download>> Completions::stop() {
  {
    std::lock_guard guard(lock_);
    stopped_ = true;
  }
  arrived_.notify_one();
  if (thread_.joinable()) thread_.join();
  std::vector<std::unique_ptr<Download>> left;
  for (auto& download : queue_) {
    download->give_up();
    if (download->done)
      std::exchange(download->done,
                    nullptr)({.code = "DISPOSED", .argument = "device", .text = "the device was disposed"});
    left.push_back(std::move(download));
  }
  queue_.clear();
  return left;
}

void Completions::work() {
  cudaSetDevice(device_);
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns: the sleeps below are short
  std::unique_lock guard(lock_);
  while (true) {
    arrived_.wait(guard, [this] { return stopped_ || !queue_.empty(); });
    if (stopped_) return;
    Download& next = *queue_.front();
    guard.unlock();
    const cudaError_t error = wait_for(next.passed);
    if (error != cudaErrorNotReady) finish(next, error);
    guard.lock();
    if (error == cudaErrorNotReady) continue;
    if (error) queue_.front().release();  // whether its parts will still be copied, nobody says
    queue_.pop_front();
  }
}

// Looks instead of waiting in CUDA, which nothing could interrupt. cudaErrorNotReady: stopped.
cudaError_t Completions::wait_for(cudaEvent_t event) {
  using namespace std::chrono;
  constexpr microseconds kShort{10}, kLong{100};
  constexpr int kShortLooks = 100;  // about 1 ms
  for (int looks = 0; !stopped_; looks++) {
    const cudaError_t state = cudaEventQuery(event);
    if (state != cudaErrorNotReady) return state;
    std::this_thread::sleep_for(looks < kShortLooks ? kShort : kLong);
  }
  return cudaErrorNotReady;
}

void Completions::finish(Download& download, cudaError_t error) {
  if (error)
    failure_.store(error, std::memory_order_release);
  else if (download.staged)
    download.deliver(download.staged, 0, download.bytes);
  downloads_.finished(download);
  if (!error) passed_.store(download.serial, std::memory_order_release);
  std::exchange(download.done, nullptr)(error ? gpu_failed(error, "") : Failure{});
}

}  // namespace foretoken::cuda
