#include "stream.h"

#include <exception>

#include "spin.h"

namespace foretoken {

Stream::Stream() : slots_(new Slot[kCapacity]), worker_([this] { work(); }) {}

Stream::~Stream() { stop(); }

void Stream::stop() {
  if (!worker_.joinable()) return;
  cancelled_.store(true);
  wake_++;
  wake_.notify_one();
  worker_.join();
}

void* Stream::claim() {
  if (enqueued_ - finished_.load(std::memory_order_acquire) == kCapacity)
    wait_until_finished(enqueued_ - kCapacity + 1);
  return slots_[enqueued_ % kCapacity].bytes;
}

// Either the worker sees the new count before it parks, or this sees that it is parked: both sides store, then load.
void Stream::publish() {
  published_.store(++enqueued_, std::memory_order_seq_cst);
  if (!parked_.load(std::memory_order_seq_cst)) return;
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_one();
}

void Stream::wait() { wait_until_finished(enqueued_); }

void Stream::wait_until_finished(uint64_t count) {
  const auto reached = [&] { return finished_.load(std::memory_order_seq_cst) >= count; };
  if (spin_until(reached)) return;
  caller_waits_.store(true, std::memory_order_seq_cst);
  for (;;) {
    const uint32_t progress = progress_.load(std::memory_order_acquire);
    if (reached()) break;
    progress_.wait(progress);
  }
  caller_waits_.store(false, std::memory_order_relaxed);
}

void Stream::work() {
  uint64_t next = 0;
  const auto awaited = [&] {
    return published_.load(std::memory_order_seq_cst) != next || cancelled_.load(std::memory_order_acquire);
  };
  while (true) {
    if (!spin_until(awaited)) {
      const uint32_t wake = wake_.load(std::memory_order_acquire);
      parked_.store(true, std::memory_order_seq_cst);
      if (!awaited()) wake_.wait(wake);
      parked_.store(false, std::memory_order_relaxed);
      continue;
    }
    // After stop() no task is enqueued any more: what is left is destroyed without running.
    if (published_.load(std::memory_order_acquire) == next) return;
    run_next();
    next++;
  }
}

void Stream::run_next() {
  auto* task = reinterpret_cast<Task*>(slots_[finished_.load(std::memory_order_relaxed) % kCapacity].bytes);
  if (!cancelled_.load(std::memory_order_relaxed)) {
    try {
      task->run(*this);
    } catch (const std::exception& error) {
      fail({.code = "STREAM_FAILED", .text = error.what()});
    }
  }
  task->~Task();
  finished_.fetch_add(1, std::memory_order_seq_cst);
  if (!caller_waits_.load(std::memory_order_seq_cst)) return;
  progress_.fetch_add(1, std::memory_order_release);
  progress_.notify_one();
}

void Stream::fail(Failure failure) {
  std::lock_guard guard(failure_lock_);
  if (!failure_) failure_ = std::move(failure);
}

Failure Stream::take_failure() {
  std::lock_guard guard(failure_lock_);
  return std::exchange(failure_, {});
}

}  // namespace foretoken
