// Stream capture: what is enqueued goes into a graph; waiting for an event of a capture makes a stream join it.
#include <algorithm>

#include "runtime.h"

namespace foretoken::ptx::runtime {

void Runtime::begin_capture(Stream& stream, cudaStreamCaptureMode mode) {
  require(!stream.legacy, cudaErrorStreamCaptureUnsupported, "the default stream cannot be captured");
  require(!stream.capture, cudaErrorIllegalState, "the stream is being captured already");
  auto capture = std::make_shared<Capture>();
  capture->id = ++ids;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = &stream;
  capture->streams.push_back(&stream);
  stream.capture = capture;
  stream.frontier.clear();
  captures.push_back(std::move(capture));
}

void Runtime::add_to_capture(Stream& stream, std::shared_ptr<Work> work) {
  Capture& capture = *stream.capture;
  require(!capture.invalid, cudaErrorStreamCaptureInvalidated, "the capture was invalidated before");
  if (work->kind == Work::Kind::free) {
    capture.invalid = true;
    throw Error(cudaErrorStreamCaptureUnsupported, "freeing memory within a graph is not implemented here");
  }
  stream.frontier = {capture.graph->add(std::move(work), stream.frontier)};
}

// Every stream that joined must have been joined again: nothing in it that the origin does not come after.
std::shared_ptr<Graph> Runtime::end_capture(Stream& stream) {
  const auto capture = stream.capture;
  require(capture != nullptr, cudaErrorIllegalState, "the stream is not being captured");
  require(capture->origin == &stream, cudaErrorStreamCaptureUnmatched, "the capture began in another stream");
  require(capture->mode == cudaStreamCaptureModeRelaxed || capture->thread == std::this_thread::get_id(),
          cudaErrorStreamCaptureWrongThread, "the capture began in another thread");
  std::vector<const GraphNode*> joined(stream.frontier.begin(), stream.frontier.end());
  for (size_t i = 0; i < joined.size(); i++)
    for (const GraphNode* before : joined[i]->after)
      if (std::find(joined.begin(), joined.end(), before) == joined.end()) joined.push_back(before);
  const bool unjoined = joined.size() != capture->graph->nodes.size();
  for (Stream* member : capture->streams) {
    member->capture = nullptr;
    member->frontier.clear();
  }
  std::erase(captures, capture);
  require(!capture->invalid, cudaErrorStreamCaptureInvalidated, "the capture was invalidated before");
  require(!unjoined, cudaErrorStreamCaptureUnjoined, "another stream that joined the capture was not joined again");
  return capture->graph;
}

void Runtime::forbid_while_capturing(const char* what) {
  for (const auto& capture : captures) {
    const bool here = capture->thread == std::this_thread::get_id();
    const bool mode_forbids =
        (capture->mode == cudaStreamCaptureModeGlobal) || (capture->mode == cudaStreamCaptureModeThreadLocal && here);
    if (!mode_forbids || thread_state().capture_mode == cudaStreamCaptureModeRelaxed) continue;
    if (thread_state().capture_mode == cudaStreamCaptureModeThreadLocal && !here) continue;
    capture->invalid = true;
    throw Error(cudaErrorStreamCaptureUnsupported, std::string(what) + " while a stream is being captured");
  }
}

void Runtime::forbid_while_capturing(Stream& stream, const char* what) {
  if (stream.legacy) {
    for (const auto& other : stream.device->streams)
      if (other->capture && other->blocking())
        throw Error(cudaErrorStreamCaptureImplicit,
                    std::string(what) + " would wait for a stream that is being captured");
  }
  if (!stream.capture) return;
  stream.capture->invalid = true;
  throw Error(cudaErrorStreamCaptureUnsupported, std::string(what) + " on a stream that is being captured");
}

void Runtime::record(Lock& lock, Stream& stream, Event& event) {
  require(event.device == stream.device, cudaErrorInvalidResourceHandle, "the event is of another device");
  if (stream.capture) {
    require(!stream.capture->invalid, cudaErrorStreamCaptureInvalidated, "the capture was invalidated before");
    event.capture = stream.capture;
    event.frontier = stream.frontier;
    event.recorded = nullptr;
    return;
  }
  event.capture = nullptr;
  event.recorded = enqueue(lock, stream, std::make_shared<RecordWork>());
}

void Runtime::wait_for(Lock& lock, Stream& stream, Event& event) {
  if (event.capture) {
    require(!event.capture->invalid, cudaErrorStreamCaptureInvalidated, "the capture was invalidated before");
    require(std::find(captures.begin(), captures.end(), event.capture) != captures.end(), cudaErrorCapturedEvent,
            "the event was recorded in a capture that has ended");
    require(!stream.legacy, cudaErrorStreamCaptureImplicit, "the default stream cannot join a capture");
    require(!stream.capture || stream.capture == event.capture, cudaErrorStreamCaptureMerge,
            "the event belongs to another capture");
    if (!stream.capture) {
      stream.capture = event.capture;
      stream.frontier.clear();
      event.capture->streams.push_back(&stream);
    }
    for (GraphNode* node : event.frontier)
      if (std::find(stream.frontier.begin(), stream.frontier.end(), node) == stream.frontier.end())
        stream.frontier.push_back(node);
    return;
  }
  if (stream.capture) {
    stream.capture->invalid = true;
    throw Error(cudaErrorStreamCaptureIsolation, "a captured stream would wait for work that is not captured");
  }
  if (event.recorded && event.recorded->state != Operation::State::done)
    enqueue(lock, stream, std::make_shared<MarkerWork>(), {event.recorded});
}

}  // namespace foretoken::ptx::runtime
