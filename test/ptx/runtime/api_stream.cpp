// Streams, events, and host functions among them.
#include <algorithm>

#include "runtime.h"

using namespace foretoken::ptx::runtime;

namespace {

void create_stream(Runtime& runtime, cudaStream_t* handle, unsigned flags, int priority) {
  require(handle != nullptr, cudaErrorInvalidValue, "no place for the stream");
  require(flags == cudaStreamDefault || flags == cudaStreamNonBlocking, cudaErrorInvalidValue, "unknown flags");
  auto stream = std::make_shared<Stream>();
  stream->id = ++runtime.ids;
  stream->device = &runtime.device();
  stream->flags = flags;
  stream->priority = std::clamp(priority, -5, 0);
  stream->device->streams.push_back(stream);
  *handle = runtime.streams.add(std::move(stream));
}

// Work that nobody ever waits for is enqueued still: the stream lives until it is empty.
void forget_empty_streams(Runtime& runtime, Device& device) {
  std::erase_if(device.streams, [&](const std::shared_ptr<Stream>& stream) {
    for (const auto& [handle, live] : runtime.streams.all())
      if (live == stream) return false;
    for (const auto& [thread, live] : device.thread_streams)
      if (live == stream) return false;
    return !stream->last();
  });
}

void add_host_work(Runtime& runtime, Lock& lock, cudaStream_t handle, HostWork work) {
  require(work.function || work.callback, cudaErrorInvalidValue, "no function");
  work.stream = handle;
  Stream& stream = runtime.stream(handle);
  require(!work.callback || !stream.capture, cudaErrorStreamCaptureUnsupported, "a callback cannot be captured");
  runtime.enqueue(lock, stream, std::make_shared<HostWork>(work));
}

cudaError_t record(cudaEvent_t event, cudaStream_t stream) {
  return call(
      [&](Runtime& runtime, Lock& lock) { runtime.record(lock, runtime.stream(stream), *runtime.events.find(event)); });
}

const std::shared_ptr<Operation>& recorded_work(Event& event) {
  require(!event.capture, cudaErrorCapturedEvent, "the event was recorded in a stream that is being captured");
  return event.recorded;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return call([&](Runtime& runtime, Lock&) { create_stream(runtime, stream, cudaStreamDefault, 0); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call([&](Runtime& runtime, Lock&) { create_stream(runtime, stream, flags, 0); });
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return call([&](Runtime& runtime, Lock&) { create_stream(runtime, stream, flags, priority); });
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return call([&](Runtime& runtime, Lock&) {
    require(!runtime.streams.find(handle)->capture, cudaErrorStreamCaptureUnsupported, "destroyed while captured");
    const auto stream = runtime.streams.take(handle);
    forget_empty_streams(runtime, *stream->device);
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  return call([&](Runtime& runtime, Lock&) { *priority = runtime.stream(stream).priority; });
}
cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  return call([&](Runtime& runtime, Lock&) { *flags = runtime.stream(stream).flags; });
}
cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  return call([&](Runtime& runtime, Lock&) { *id = runtime.stream(stream).id; });
}
cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  return call([&](Runtime& runtime, Lock&) { *device = runtime.stream(stream).device->ordinal; });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    Stream& stream = runtime.stream(handle);
    runtime.forbid_while_capturing(stream, "cudaStreamSynchronize");
    runtime.synchronize(lock, stream);
  });
}

// Does one piece of the work that is asked for, so that code which polls gets on but must not count on the first
// answer.
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    Stream& stream = runtime.stream(handle);
    runtime.forbid_while_capturing(stream, "cudaStreamQuery");
    runtime.counters.queries++;
    const auto last = stream.last();
    const bool done = !last || runtime.advance(lock, last);
    Runtime::check(*stream.device);
    require(done, cudaErrorNotReady, "the stream has work to do");
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return call([&](Runtime& runtime, Lock& lock) {
    runtime.wait_for(lock, runtime.stream(stream), *runtime.events.find(event));
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return call([&](Runtime& runtime, Lock& lock) {
    HostWork work;
    work.function = function;
    work.data = data;
    add_host_work(runtime, lock, stream, work);
  });
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned flags) {
  return call([&](Runtime& runtime, Lock& lock) {
    require(flags == 0, cudaErrorInvalidValue, "flags must be 0");
    HostWork work;
    work.callback = callback;
    work.data = data;
    add_host_work(runtime, lock, stream, work);
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  return call([&](Runtime& runtime, Lock&) {
    require(handle != nullptr, cudaErrorInvalidValue, "no place for the event");
    require((flags & ~unsigned(cudaEventBlockingSync | cudaEventDisableTiming)) == 0, cudaErrorInvalidValue,
            "unknown flags");
    auto event = std::make_shared<Event>();
    event->device = &runtime.device();
    event->flags = flags;
    *handle = runtime.events.add(std::move(event));
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call([&](Runtime& runtime, Lock&) { runtime.events.take(event); });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return record(event, stream); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags == cudaEventRecordDefault) return record(event, stream);
  return call([&](Runtime&, Lock&) { throw Error(cudaErrorNotSupported, "external events are not implemented here"); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    const std::shared_ptr<Event> event = runtime.events.find(handle);
    const auto operation = recorded_work(*event);
    runtime.counters.synchronizations++;
    if (operation) runtime.drive(lock, operation);
    runtime.trim_pools(*event->device);
    Runtime::check(*event->device);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    const std::shared_ptr<Event> event = runtime.events.find(handle);
    const auto operation = recorded_work(*event);
    runtime.counters.queries++;
    const bool done = !operation || runtime.advance(lock, operation);
    Runtime::check(*event->device);
    require(done, cudaErrorNotReady, "the event has not been reached");
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return call([&](Runtime& runtime, Lock&) {
    Event& first = *runtime.events.find(start);
    Event& second = *runtime.events.find(end);
    require(!((first.flags | second.flags) & cudaEventDisableTiming), cudaErrorInvalidResourceHandle,
            "an event without timing");
    const auto from = recorded_work(first), to = recorded_work(second);
    require(from && to, cudaErrorInvalidResourceHandle, "an event that was never recorded");
    const bool done = from->state == Operation::State::done && to->state == Operation::State::done;
    require(done, cudaErrorNotReady, "an event that has not been reached");
    const double elapsed = static_cast<const RecordWork&>(*to->work).milliseconds -
                           static_cast<const RecordWork&>(*from->work).milliseconds;
    *milliseconds = static_cast<float>(elapsed);
  });
}

}  // extern "C"
