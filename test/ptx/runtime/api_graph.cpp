// Stream capture and graphs.
#include <algorithm>

#include "runtime.h"

using namespace foretoken::ptx::runtime;

namespace {

cudaError_t instantiate_call(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return call([&](Runtime& runtime, Lock&) {
    require(executable != nullptr, cudaErrorInvalidValue, "no place for the graph");
    require(
        (flags & ~uint64_t{cudaGraphInstantiateFlagAutoFreeOnLaunch | cudaGraphInstantiateFlagUseNodePriority}) == 0,
        cudaErrorNotSupported, "graphs that are uploaded or launched by the device are not implemented here");
    *executable = runtime.executables.add(instantiate(*runtime.graphs.find(graph), flags));
  });
}

cudaGraphNodeType type_of(const Work& work) {
  switch (work.kind) {
    case Work::Kind::kernel: return cudaGraphNodeTypeKernel;
    case Work::Kind::copy: return cudaGraphNodeTypeMemcpy;
    case Work::Kind::fill: return cudaGraphNodeTypeMemset;
    case Work::Kind::host: return cudaGraphNodeTypeHost;
    default: return cudaGraphNodeTypeEmpty;
  }
}

}  // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return call([&](Runtime& runtime, Lock&) { runtime.begin_capture(runtime.stream(stream), mode); });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (graph) *graph = nullptr;
  return call([&](Runtime& runtime, Lock&) {
    require(graph != nullptr, cudaErrorInvalidValue, "no place for the graph");
    Stream& captured = runtime.stream(stream);
    const cudaGraph_t known = captured.capture ? captured.capture->handle : nullptr;
    auto ended = runtime.end_capture(captured);
    *graph = known ? known : runtime.graphs.add(std::move(ended));
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return cudaStreamGetCaptureInfo(stream, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  return call([&](Runtime& runtime, Lock&) {
    require(status != nullptr, cudaErrorInvalidValue, "no place for the status");
    Stream& stream = runtime.stream(handle);
    if (stream.legacy)
      for (const auto& other : stream.device->streams)
        require(!(other->capture && other->blocking()), cudaErrorStreamCaptureImplicit,
                "the default stream while a blocking stream is being captured");
    Capture* capture = stream.capture.get();
    *status = !capture           ? cudaStreamCaptureStatusNone
              : capture->invalid ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    if (!capture) return;
    if (id) *id = capture->id;
    if (graph && !capture->handle) capture->handle = runtime.graphs.add(capture->graph);
    if (graph) *graph = capture->handle;
    if (dependencies) *dependencies = reinterpret_cast<const cudaGraphNode_t*>(stream.frontier.data());
    if (edges) *edges = nullptr;
    if (count) *count = stream.frontier.size();
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return call([&](Runtime&, Lock&) {
    require(mode != nullptr, cudaErrorInvalidValue, "no mode");
    std::swap(*mode, thread_state().capture_mode);
  });
}

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  return call([&](Runtime& runtime, Lock&) { *graph = runtime.graphs.add(std::make_shared<Graph>()); });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return instantiate_call(executable, graph, flags);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return instantiate_call(executable, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return call([&](Runtime& runtime, Lock& lock) {
    const std::shared_ptr<ExecutableGraph> graph = runtime.executables.find(executable);
    Stream& target = runtime.stream(stream);
    require(!target.capture, cudaErrorStreamCaptureUnsupported, "a graph within a graph is not implemented here");
    runtime.counters.graph_launches++;
    launch(runtime, lock, target, *graph);
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  return call([&](Runtime& runtime, Lock&) { runtime.executables.find(executable); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return call([&](Runtime& runtime, Lock&) { runtime.executables.take(executable); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call([&](Runtime& runtime, Lock&) { runtime.graphs.take(graph); });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call([&](Runtime& runtime, Lock&) {
    const Graph& asked = *runtime.graphs.find(graph);
    const size_t room = nodes ? std::min(*count, asked.nodes.size()) : 0;
    for (size_t i = 0; i < room; i++) nodes[i] = reinterpret_cast<cudaGraphNode_t>(asked.nodes[i].get());
    *count = nodes ? room : asked.nodes.size();
  });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return call([&](Runtime& runtime, Lock&) {
    for (const auto& [handle, graph] : runtime.graphs.all())
      for (const auto& known : graph->nodes)
        if (known.get() == reinterpret_cast<GraphNode*>(node)) {
          *type = type_of(*known->work);
          return;
        }
    throw Error(cudaErrorInvalidValue, "not a node of a graph");
  });
}

}  // extern "C"
