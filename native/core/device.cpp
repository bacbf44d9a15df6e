#include "device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cores.h"
#include "env.h"

namespace foretoken {

Device::Device(const Backend& backend, bool dry, int64_t memory_limit, int multiprocessors)
    : backend_(backend), dry_(dry), sync_(env::sync()) {
  machine_.multiprocessors = multiprocessors;
  allocator_ = std::make_unique<Allocator>(Allocator::Settings{
      .dry = dry,
      .limit = memory_limit,
      .after_enqueued =
          [this](std::function<void()> purge) { enqueue_now([purge = std::move(purge)](Stream&) { purge(); }); },
      .of_gpu = multiprocessors > 0});
  if (dry_) {
    machine_.threads = multiprocessors > 0 ? 1 : thread_count();
    return;
  }
  stream_ = std::make_unique<Stream>();
  parallel_ = std::make_unique<PoolParallel>(ThreadPool::shared(), stream_->cancelled());
  machine_.threads = parallel_->threads;
}

Device::Device(const Backend& backend, std::unique_ptr<Gpu> gpu, int64_t memory_limit)
    : backend_(backend), dry_(false), sync_(env::sync()), gpu_(std::move(gpu)) {
  machine_.multiprocessors = gpu_->info().multiprocessors;
  allocator_ = std::make_unique<Allocator>(Allocator::Settings{.limit = memory_limit,
                                                               .after_enqueued =
                                                                   [this](const std::function<void()>& purge) {
                                                                     gpu_->wait_for_memory();
                                                                     purge();
                                                                   },
                                                               .of_gpu = true,
                                                               .gpu = gpu_.get()});
}

Device::~Device() {
  if (stream_) stream_->stop();
}

// ---- copies --------------------------------------------------------------------------------------------------------

// Bytes copied at the call, on their way to a tensor.
struct Device::StagedWrite {
  std::unique_ptr<std::byte[]> bytes;
  int64_t count;
  void* to;
  std::atomic<int64_t>* staged;  // nullptr in a recording: the bytes stay there and wait in no queue

  StagedWrite(const void* from, int64_t size, void* target, std::atomic<int64_t>* counter)
      : bytes(new std::byte[static_cast<size_t>(size)]), count(size), to(target), staged(counter) {
    std::memcpy(bytes.get(), from, static_cast<size_t>(size));
    if (staged) *staged += count;
  }
  StagedWrite(StagedWrite&&) = default;
  ~StagedWrite() {
    if (bytes && staged) *staged -= count;
  }
  void operator()(Stream&) const { std::memcpy(to, bytes.get(), static_cast<size_t>(count)); }
};

void Device::write(void* to, const void* from, int64_t bytes, Failure& failure) {
  constexpr int64_t kMostStaged = 4 << 20;  // beyond that the caller waits: staged bytes are not in the ledger
  if (gpu_) {
    failure = gpu_->write(to, from, bytes);
    return;
  }
  if (!stream_) return;
  if (recording_) return enqueue(StagedWrite(from, bytes, to, nullptr));
  if (!stream_->idle() && staged_ + bytes > kMostStaged) stream_->wait();
  if (stream_->idle())
    std::memcpy(to, from, static_cast<size_t>(bytes));
  else
    enqueue(StagedWrite(from, bytes, to, &staged_));
}

struct Device::Read {
  Gpu::Done done;
  void* to;
  const void* from;
  size_t bytes;

  Read(void* target, const void* source, int64_t count, Gpu::Done then)
      : done(std::move(then)), to(target), from(source), bytes(static_cast<size_t>(count)) {}
  Read(Read&& other) noexcept
      : done(std::exchange(other.done, nullptr)), to(other.to), from(other.from), bytes(other.bytes) {}
  // Skipped by a stream that was stopped.
  ~Read() {
    if (done) done({.code = "DISPOSED", .argument = "device", .text = "the device was disposed"});
  }
  void operator()(Stream& stream) {
    if (bytes) std::memcpy(to, from, bytes);
    std::exchange(done, nullptr)(stream.take_failure());
  }
};

void Device::read(void* to, const void* from, int64_t bytes, Gpu::Done done) {
  if (gpu_)
    gpu_->read(to, from, bytes, std::move(done));
  else
    enqueue_now(Read(to, from, bytes, std::move(done)));
}

// ---- recordings ----------------------------------------------------------------------------------------------------

uint32_t Device::begin_recording(Failure* failure) {
  if (gpu_)
    if (Failure refused = gpu_->begin_recording()) {
      *failure = std::move(refused);
      return 0;
    }
  recording_ = std::make_shared<Recording>();
  return recording_id_ = allocator_->begin_recording();
}

// Each op is told of the packed weight that comes next; the last ones, of the first, which is read again when the
// recording is replayed again.
void Device::look_ahead(Recording& recording) const {
  Ahead ahead;
  for (int round = 0; round < 2; round++)
    for (size_t i = recording.size(); i-- > 0;) {
      recording[i].ahead = ahead;
      const View weight = recording[i].task->weight();
      if (!given(weight)) continue;
      const int64_t n = weight.shape[0], bytes = backend_.packed_weight_bytes(weight.dtype, n, weight.shape[1]);
      const int64_t share = bytes / std::max<int64_t>(1, n) * share_columns(n, machine_.threads);
      constexpr int64_t kMost = UINT32_MAX;
      ahead = {static_cast<const std::byte*>(weight.data), static_cast<uint32_t>(std::min(kMost, bytes)),
               static_cast<uint32_t>(std::min(kMost, share))};
    }
}

uint32_t Device::keep_recording() {
  allocator_->end_recording();
  if (stream_) look_ahead(*recording_);
  recordings_[recording_id_] = std::move(recording_);
  recording_ = nullptr;
  return recording_id_;
}

uint32_t Device::end_recording(Failure* failure) {
  const uint32_t id = keep_recording();
  if (gpu_) *failure = gpu_->end_recording(id);
  return id;
}

uint32_t Device::abandon_recording() {
  if (gpu_) gpu_->abandon_recording();
  return keep_recording();
}

void Device::run(const Recording& recording, Stream& stream) {
  for (const auto& [task, ahead] : recording) {
    parallel_->ahead = ahead;
    task->run(stream);
  }
  parallel_->ahead = {};
}

Failure Device::replay(uint32_t id, int64_t times) {
  if (!gpu_) {
    const auto& recording = recordings_.at(id);
    for (int64_t i = 0; i < times; i++) enqueue_now([this, recording](Stream& stream) { run(*recording, stream); });
    return {};
  }
  const auto combined = combined_.find(id);
  const std::span<const uint32_t> parts =
      combined == combined_.end() ? std::span(&id, 1) : std::span<const uint32_t>(combined->second);
  for (int64_t i = 0; i < times; i++)
    for (const uint32_t part : parts)
      if (Failure failure = gpu_->replay(part)) return failure;
  return {};
}

uint32_t Device::combine(std::span<const uint32_t> choices, const int32_t* index, std::span<const uint32_t> after) {
  const uint32_t id = allocator_->begin_recording();
  allocator_->end_recording();
  const auto kept = [this](std::span<const uint32_t> ids) {
    std::vector<std::shared_ptr<Recording>> recordings;
    for (const uint32_t each : ids) recordings.push_back(recordings_.at(each));
    return recordings;
  };
  auto runs = [this, choices = kept(choices), index, after = kept(after)](Stream& stream) {
    const auto place = std::clamp(int64_t{*index}, int64_t{0}, static_cast<int64_t>(choices.size()) - 1);
    run(*choices[place], stream);
    for (const auto& recording : after) run(*recording, stream);
  };
  recordings_[id] = std::make_shared<Recording>();
  recordings_[id]->push_back({std::make_unique<TaskOf<decltype(runs)>>(std::move(runs))});
  if (gpu_) {
    combined_[id] = {choices.back()};
    combined_[id].insert(combined_[id].end(), after.begin(), after.end());
  }
  return id;
}

void Device::free_recording(uint32_t id) {
  if (gpu_) gpu_->free_recording(id);
  combined_.erase(id);
  recordings_.erase(id);
  allocator_->release_recording(id);
}

}  // namespace foretoken
