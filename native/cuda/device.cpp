#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../core/env.h"
#include "completions.h"
#include "downloads.h"
#include "errors.h"
#include "failure.h"
#include "range.h"
#include "recording.h"
#include "retired.h"
#include "staging.h"

namespace foretoken::cuda {

namespace {

cudaError_t make_current(int device) {
  static thread_local int current = -1;
  if (current == device) return cudaSuccess;
  const cudaError_t error = cudaSetDevice(device);
  if (!error) current = device;
  return error;
}

// All that queued work may use. Freed once the GPU has passed it, which may be after the device is gone.
struct Resources {
  cudaStream_t stream = nullptr;
  cudaEvent_t before_recording = nullptr;
  std::vector<std::shared_ptr<Backing>> ranges;
  UploadRing uploads;
  Downloads downloads;
  std::vector<std::unique_ptr<Download>> given_up;
  std::unordered_map<uint32_t, std::shared_ptr<Graph>> graphs;

  ~Resources() {
    graphs.clear();
    if (before_recording) cudaEventDestroy(before_recording);
    if (stream) cudaStreamDestroy(stream);
  }
};

class CudaGpu final : public Gpu {
 public:
  CudaGpu(const GpuInfo& info, bool sync) : info_(info), sync_(sync) {}
  ~CudaGpu() override;
  cudaError_t open();
  void abandon() override { abandoned_ = true; }
  const GpuInfo& info() const override { return info_; }

  int64_t default_limit() const override { return limit_; }
  std::shared_ptr<Backing> backing() override;
  void* allocate(int64_t bytes) override;
  void free(void* data) override;
  void wait_for_memory() override;

  void* stream() const override { return resources_->stream; }
  Failure enter(const char* op) override;
  Failure launched(const char* op) override;
  Failure write(void* to, const void* from, int64_t bytes) override;
  void read(void* to, const void* from, int64_t bytes, Done done) override;

  Failure begin_recording() override;
  Failure end_recording(uint32_t id) override;
  void abandon_recording() override;
  Failure replay(uint32_t id) override;
  void free_recording(uint32_t id) override;

 private:
  cudaStream_t queue() const { return resources_->stream; }
  void free_graph(std::shared_ptr<Graph> graph);
  Failure failed(cudaError_t error, const char* op);
  Failure synchronize(const char* op);
  void after_recording();

  const GpuInfo info_;
  const bool sync_;
  bool abandoned_ = false;
  int64_t limit_ = 0;
  const VirtualMemory* virtual_memory_ = nullptr;  // nullptr: blocks are allocated each by itself
  cudaStream_t allocations_ = nullptr;             // where blocks come from while the queue records
  std::unique_ptr<Resources> resources_ = std::make_unique<Resources>();
  std::unique_ptr<Completions> completions_;
  cudaError_t broken_ = cudaSuccess;  // nothing runs on the GPU any more
  uint64_t enqueued_ = 0;             // counts what was enqueued
  std::shared_ptr<Graph> recording_;
  std::unordered_set<void*> blocks_;  // of `allocate`
  // Until the end of what is recorded now.
  std::vector<void*> blocks_to_free_;
  std::vector<std::shared_ptr<Graph>> graphs_to_free_;
};

// ---- opening and closing -------------------------------------------------------------------------------------------

// The driver may call into this library as long as the process lives, also when no environment uses it any more.
void stay_loaded() {
  Dl_info self{};
  static const bool kept = dladdr(reinterpret_cast<void*>(&stay_loaded), &self) &&
                           dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  (void)kept;
}

// What is free less what kernels, the driver and fragmentation may take.
int64_t usable(size_t free) {
  constexpr int64_t kLeastMargin = 256 << 20;
  const auto bytes = static_cast<int64_t>(free);
  return std::max(bytes / 2, bytes - std::max(kLeastMargin, bytes / 32));
}

cudaError_t CudaGpu::open() {
  if (const cudaError_t error = make_current(info_.index)) return error;
  free_retired(false);
  size_t free = 0, total = 0;
  Resources& made = *resources_;
  Steps steps;
  steps.then(cudaMemGetInfo, &free, &total)
      .then(cudaStreamCreateWithFlags, &made.stream, cudaStreamNonBlocking)
      .then(cudaEventCreateWithFlags, &made.before_recording, cudaEventDisableTiming);
  if (!steps.error) steps.error = made.uploads.open();
  if (!steps.error) steps.error = made.downloads.open();
  limit_ = usable(free);
  if (env::cache()) virtual_memory_ = virtual_memory(info_.index);
  if (!virtual_memory_) steps.then(cudaStreamCreateWithFlags, &allocations_, cudaStreamNonBlocking);
  completions_ = std::make_unique<Completions>(info_.index, made.downloads);
  return steps.error;
}

CudaGpu::~CudaGpu() {
  make_current(info_.index);
  if (recording_) abandon_recording();
  if (completions_) resources_->given_up = completions_->stop();
  const bool idle = completions_ && completions_->passed() == enqueued_;
  if (abandoned_) {
    resources_.release();
    return;
  }
  for (void* block : blocks_) cudaFreeAsync(block, queue());
  if (allocations_) cudaStreamDestroy(allocations_);
  if (idle || !queue()) return;
  const cudaStream_t stream = queue();
  // std::function wants what can be copied.
  retire(info_.index, stream,
         [resources = std::shared_ptr<Resources>(std::move(resources_))]() mutable { resources.reset(); });
}

// ---- memory --------------------------------------------------------------------------------------------------------

std::shared_ptr<Backing> CudaGpu::backing() {
  if (!virtual_memory_) return nullptr;
  make_current(info_.index);
  resources_->ranges.push_back(std::make_shared<DeviceRange>(*virtual_memory_, info_.index));
  return resources_->ranges.back();
}

void* CudaGpu::allocate(int64_t bytes) {
  make_current(info_.index);
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  const cudaStream_t stream = recording_ ? allocations_ : queue();
  void* data = nullptr;
  cudaError_t error = cudaMallocAsync(&data, size, stream);
  if (error == cudaErrorMemoryAllocation) {
    // What was freed is there only once the queue has passed it.
    cudaGetLastError();
    wait_for_memory();
    free_retired(true);
    error = cudaMallocAsync(&data, size, stream);
  }
  if (!error && recording_) error = cudaStreamSynchronize(allocations_);
  if (error) {
    cudaGetLastError();
    return nullptr;
  }
  blocks_.insert(data);
  return data;
}

void CudaGpu::free(void* data) {
  if (recording_) return blocks_to_free_.push_back(data);
  make_current(info_.index);
  blocks_.erase(data);
  cudaFreeAsync(data, queue());
}

void CudaGpu::wait_for_memory() {
  make_current(info_.index);
  // A stream that records cannot be waited for; what was enqueued before can.
  if (recording_)
    cudaEventSynchronize(resources_->before_recording);
  else
    cudaStreamSynchronize(queue());
}

// ---- the stream ----------------------------------------------------------------------------------------------------

Failure CudaGpu::enter(const char* op) {
  make_current(info_.index);
  if (!broken_) broken_ = completions_->failure();
  return broken_ ? gpu_failed(broken_, op) : Failure{};
}

Failure CudaGpu::synchronize(const char* op) {
  broken_ = cudaStreamSynchronize(queue());
  return broken_ ? op_failed(broken_, op) : Failure{};
}

// A failed call either could not do what it was asked, or says that the GPU has failed before.
Failure CudaGpu::failed(cudaError_t error, const char* op) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  const cudaError_t state = recording_ ? cudaSuccess : cudaStreamQuery(queue());
  if (state != cudaSuccess && state != cudaErrorNotReady) broken_ = state;
  cudaGetLastError();
  return broken_ ? gpu_failed(broken_, op) : failure_of(error, op);
}

Failure CudaGpu::launched(const char* op) {
  enqueued_++;
  const char* refused = take_failure();
  Failure failure = failed(cudaGetLastError(), op);
  if (refused) failure.text = refused + (failure ? ": " + failure.text : "");
  if (refused && !failure) failure = {.code = "CUDA_ERROR", .op = op, .text = failure.text};
  if (failure) return failure;
  return sync_ && !recording_ ? synchronize(op) : Failure{};
}

Failure CudaGpu::write(void* to, const void* from, int64_t bytes) {
  if (Failure failure = enter("write")) return failure;
  const auto size = static_cast<size_t>(bytes);
  const cudaError_t error =
      recording_ ? recording_->write(to, from, size, queue()) : resources_->uploads.send(to, from, size, queue());
  if (error) return failed(error, "write");
  return launched("write");
}

// ---- reading -------------------------------------------------------------------------------------------------------

void CudaGpu::read(void* to, const void* from, int64_t bytes, Done done) {
  if (Failure failure = enter("read")) return done(std::move(failure));
  auto download = std::make_unique<Download>();
  const cudaError_t error = resources_->downloads.enqueue(*download, to, from, static_cast<size_t>(bytes), queue());
  if (error) {
    download->give_up();
    download.release();  // parts of it may have been enqueued
    return done(failed(error, "read"));
  }
  download->done = std::move(done);
  download->serial = ++enqueued_;
  completions_->add(std::move(download));
}

// ---- recordings ----------------------------------------------------------------------------------------------------

Failure CudaGpu::begin_recording() {
  if (Failure failure = enter("record")) return failure;
  free_retired(false);
  auto graph = std::make_shared<Graph>();
  Steps steps;
  steps.then(cudaEventRecord, resources_->before_recording, queue());
  if (!steps.error) steps.error = graph->begin(queue());
  if (steps.error) return failed(steps.error, "record");
  recording_ = std::move(graph);
  return {};
}

Failure CudaGpu::end_recording(uint32_t id) {
  make_current(info_.index);
  const std::shared_ptr<Graph> graph = std::exchange(recording_, nullptr);
  const cudaError_t error = graph->end(queue());
  after_recording();
  if (error) return failed(error, "record");
  resources_->graphs[id] = graph;
  return {};
}

void CudaGpu::abandon_recording() {
  make_current(info_.index);
  Graph::abandon(queue());
  recording_ = nullptr;
  after_recording();
}

// What waited because a stream that records takes neither frees nor events that are anyone else's.
void CudaGpu::after_recording() {
  for (void* data : std::exchange(blocks_to_free_, {})) free(data);
  for (auto& graph : std::exchange(graphs_to_free_, {})) free_graph(std::move(graph));
}

Failure CudaGpu::replay(uint32_t id) {
  if (Failure failure = enter("replay")) return failure;
  const cudaError_t error = resources_->graphs.at(id)->launch(queue());
  return error ? failed(error, "replay") : launched("replay");
}

void CudaGpu::free_recording(uint32_t id) {
  const auto found = resources_->graphs.find(id);
  if (found == resources_->graphs.end()) return;
  free_graph(std::move(found->second));
  resources_->graphs.erase(found);
}

// Replays of it may be queued.
void CudaGpu::free_graph(std::shared_ptr<Graph> graph) {
  if (recording_) return graphs_to_free_.push_back(std::move(graph));
  make_current(info_.index);
  retire(info_.index, queue(), [graph = std::move(graph)]() mutable { graph.reset(); });
}

}  // namespace

std::unique_ptr<Gpu> open(const GpuInfo& info, bool sync, Failure& failure) {
  stay_loaded();
  auto gpu = std::make_unique<CudaGpu>(info, sync);
  failure = failure_of(gpu->open(), "openDevice");
  if (failure) cudaGetLastError();
  return failure ? nullptr : std::move(gpu);
}

}  // namespace foretoken::cuda
