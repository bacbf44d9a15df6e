#include "device.h"

#include "cores.h"
#include "env.h"

namespace foretoken {

Device::Device(const Backend& backend, bool dry, int64_t memory_limit)
    : backend_(backend), dry_(dry), sync_(env::sync()) {
  allocator_ = std::make_unique<Allocator>(
      Allocator::Settings{.dry = dry, .limit = memory_limit, .after_enqueued = [this](std::function<void()> purge) {
                            enqueue_now([purge = std::move(purge)](Stream&) { purge(); });
                          }});
  if (dry_) {
    machine_.threads = thread_count();
    return;
  }
  stream_ = std::make_unique<Stream>();
  parallel_ = std::make_unique<PoolParallel>(ThreadPool::shared(), stream_->cancelled());
  machine_.threads = parallel_->threads;
}

Device::~Device() { stop(); }

void Device::stop() {
  if (stream_) stream_->stop();
}

uint32_t Device::begin_recording() {
  recording_ = std::make_shared<Recording>();
  return recording_id_ = allocator_->begin_recording();
}

uint32_t Device::end_recording() {
  allocator_->end_recording();
  recordings_[recording_id_] = std::move(recording_);
  recording_ = nullptr;
  return recording_id_;
}

void Device::replay(uint32_t id) {
  enqueue_now([recording = recordings_.at(id)](Stream& stream) {
    for (const auto& task : *recording) task->run(stream);
  });
}

void Device::free_recording(uint32_t id) {
  recordings_.erase(id);
  allocator_->release_recording(id);
}

}  // namespace foretoken
