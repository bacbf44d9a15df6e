// Graphs: work with an order between its parts, captured from streams and launched as often as one likes.
#pragma once
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.h"

namespace foretoken::ptx::runtime {

class Runtime;

struct GraphNode {
  std::shared_ptr<Work> work;
  std::vector<GraphNode*> after;
};

struct Graph {
  std::vector<std::unique_ptr<GraphNode>> nodes;  // each behind what it comes after
  GraphNode* add(std::shared_ptr<Work> work, std::vector<GraphNode*> after);
};

// A graph made ready to launch: the nodes as they were then.
struct ExecutableGraph {
  struct Node {
    std::shared_ptr<Work> work;
    std::vector<size_t> after;
  };
  std::vector<Node> nodes;
  unsigned long long flags = 0;
};

// Streams whose work goes into one graph.
struct Capture {
  unsigned long long id = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  cudaGraph_t handle = nullptr;  // given at the first question for it
  Stream* origin = nullptr;
  std::vector<Stream*> streams;  // that joined by waiting for an event of it
  bool invalid = false;          // something that cannot be captured was tried
};

std::shared_ptr<ExecutableGraph> instantiate(const Graph& graph, unsigned long long flags);

// Enqueues the nodes on one stream, in an order among those allowed that the seed picks.
void launch(Runtime& runtime, std::unique_lock<std::mutex>& lock, Stream& stream, const ExecutableGraph& graph);

}  // namespace foretoken::ptx::runtime
