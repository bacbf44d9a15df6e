// A recording: a CUDA graph, and the bytes that its writes store at each replay.
#pragma once
#include <cuda_runtime_api.h>

#include <vector>

#include "staging.h"

namespace foretoken::cuda {

class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;

  // What is enqueued on the stream from `begin` to `end` becomes the graph. After a failed `end` there is none.
  cudaError_t begin(cudaStream_t stream);
  cudaError_t end(cudaStream_t stream);
  // Ends what `begin` began, and keeps nothing.
  static void abandon(cudaStream_t stream);

  // While it is begun: a write whose bytes the graph keeps.
  cudaError_t write(void* to, const void* from, size_t bytes, cudaStream_t stream);

  cudaError_t launch(cudaStream_t stream) const { return cudaGraphLaunch(executable_, stream); }

 private:
  cudaGraphExec_t executable_ = nullptr;
  std::vector<Pinned> sources_;
};

}  // namespace foretoken::cuda
