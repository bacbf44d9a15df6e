#include "graph.h"

#include <map>

#include "runtime.h"

namespace foretoken::ptx::runtime {

GraphNode* Graph::add(std::shared_ptr<Work> work, std::vector<GraphNode*> after) {
  nodes.push_back(std::make_unique<GraphNode>(GraphNode{std::move(work), std::move(after)}));
  return nodes.back().get();
}

std::shared_ptr<ExecutableGraph> instantiate(const Graph& graph, unsigned long long flags) {
  auto executable = std::make_shared<ExecutableGraph>();
  executable->flags = flags;
  std::map<const GraphNode*, size_t> index;
  for (const auto& node : graph.nodes) {
    ExecutableGraph::Node copy{node->work, {}};
    for (const GraphNode* before : node->after) copy.after.push_back(index.at(before));
    index[node.get()] = executable->nodes.size();
    executable->nodes.push_back(std::move(copy));
  }
  return executable;
}

void launch(Runtime& runtime, Lock& lock, Stream& stream, const ExecutableGraph& graph) {
  std::vector<size_t> waits_for(graph.nodes.size());
  std::vector<std::vector<size_t>> followers(graph.nodes.size());
  std::vector<size_t> ready;
  for (size_t i = 0; i < graph.nodes.size(); i++) {
    waits_for[i] = graph.nodes[i].after.size();
    for (const size_t before : graph.nodes[i].after) followers[before].push_back(i);
    if (waits_for[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    const size_t pick = runtime.random.below(static_cast<uint32_t>(ready.size()));
    const size_t node = ready[pick];
    ready[pick] = ready.back();
    ready.pop_back();
    runtime.enqueue(lock, stream, graph.nodes[node].work);
    for (const size_t next : followers[node])
      if (--waits_for[next] == 0) ready.push_back(next);
  }
}

}  // namespace foretoken::ptx::runtime
