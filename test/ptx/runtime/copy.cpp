#include "copy.h"

namespace foretoken::ptx::runtime {
namespace {

bool to_device(cudaMemcpyKind kind) { return kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice; }
bool from_device(cudaMemcpyKind kind) { return kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice; }

void check_range(Device& device, const void* start, size_t pitch, size_t width, size_t height, const char* what) {
  for (size_t row = 0; row < height; row++)
    device.memory->check(reinterpret_cast<uint64_t>(start) + row * pitch, width, what);
}

}  // namespace

Device* owner_of(Runtime& runtime, const void* pointer) {
  for (const auto& device : runtime.devices)
    if (device->memory->owns(reinterpret_cast<uint64_t>(pointer))) return device.get();
  return nullptr;
}

// Page-locked memory is read and written when the copy runs. Other host memory is read at the call; to write it, the
// call has to wait, as the driver does.
void copy(Runtime& runtime, Lock& lock, Stream& stream, const CopyRequest& request) {
  if (request.blocking) runtime.forbid_while_capturing("a blocking copy");
  if (request.width == 0 || request.height == 0) return;
  require(request.to && request.from, cudaErrorInvalidValue, "copy: a null pointer");
  require(request.height == 1 || (request.to_pitch >= request.width && request.from_pitch >= request.width),
          cudaErrorInvalidPitchValue, "copy: rows overlap");
  auto work = std::make_shared<CopyWork>();
  work->to = static_cast<char*>(request.to);
  work->from = static_cast<const char*>(request.from);
  work->to_pitch = request.to_pitch;
  work->from_pitch = request.from_pitch;
  work->width = request.width;
  work->height = request.height;
  work->to_device = owner_of(runtime, request.to);
  work->from_device = owner_of(runtime, request.from);
  work->to_side = work->to_device ? CopyWork::Side::device : CopyWork::Side::host;
  work->from_side = work->from_device ? CopyWork::Side::device : CopyWork::Side::host;
  if (request.kind != cudaMemcpyDefault) {
    require(to_device(request.kind) == !!work->to_device && from_device(request.kind) == !!work->from_device,
            cudaErrorInvalidValue, "copy: the pointers do not lie where the direction says");
  }
  if (work->to_device)
    check_range(*work->to_device, work->to, work->to_pitch, work->width, work->height, "copy: the destination");
  if (work->from_device)
    check_range(*work->from_device, work->from, work->from_pitch, work->width, work->height, "copy: the source");

  const size_t from_span = (work->height - 1) * work->from_pitch + work->width;
  const size_t to_span = (work->height - 1) * work->to_pitch + work->width;
  const bool host_source = !work->from_device, host_target = !work->to_device;
  work->pinned_source = host_source && runtime.host_memory.is_pinned(work->from, from_span);
  work->pinned_target = host_target && runtime.host_memory.is_pinned(work->to, to_span);
  const bool capturing = stream.capture != nullptr;
  if (host_source && !work->pinned_source && !request.blocking && !capturing) work->stage();
  const bool waits = request.blocking || (!capturing && host_target && !work->pinned_target);
  const auto operation = runtime.enqueue(lock, stream, work);
  if (!waits) return;
  runtime.counters.synchronizations++;
  runtime.drive(lock, operation);
  Runtime::check(*stream.device);
}

void fill(Runtime& runtime, Lock& lock, Stream& stream, const FillRequest& request) {
  if (request.width == 0 || request.height == 0) return;
  Device* owner = owner_of(runtime, request.to);
  require(owner != nullptr, cudaErrorInvalidValue, "fill: not an address of a device");
  require(request.height == 1 || request.pitch >= request.width, cudaErrorInvalidPitchValue, "fill: rows overlap");
  check_range(*owner, request.to, request.pitch, request.width, request.height, "fill: the destination");
  auto work = std::make_shared<FillWork>();
  work->owner = owner;
  work->to = reinterpret_cast<uint64_t>(request.to);
  work->pitch = request.pitch;
  work->width = request.width;
  work->height = request.height;
  work->value = static_cast<uint8_t>(request.value);
  runtime.enqueue(lock, stream, std::move(work));
}

}  // namespace foretoken::ptx::runtime
