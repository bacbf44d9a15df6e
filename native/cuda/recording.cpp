#include "recording.h"

#include <cstring>

namespace foretoken::cuda {

Graph::~Graph() {
  if (executable_) cudaGraphExecDestroy(executable_);
}

// Relaxed: memory may be mapped and page-locked meanwhile, and no other thread's calls are forbidden.
cudaError_t Graph::begin(cudaStream_t stream) { return cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed); }

cudaError_t Graph::end(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &graph);
  if (!error) error = cudaGraphInstantiate(&executable_, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  return error;
}

void Graph::abandon(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();  // whatever was wrong with it
}

cudaError_t Graph::write(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  Pinned source = allocate_pinned(bytes);
  if (!source) return cudaErrorMemoryAllocation;
  std::memcpy(source.get(), from, bytes);
  const cudaError_t error = cudaMemcpyAsync(to, source.get(), bytes, cudaMemcpyHostToDevice, stream);
  sources_.push_back(std::move(source));
  return error;
}

}  // namespace foretoken::cuda
