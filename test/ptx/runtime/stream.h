// Streams, events, and what is enqueued on them.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "work.h"

namespace foretoken::ptx::runtime {

struct Capture;
struct GraphNode;
struct Stream;

// One piece of work in one stream. It may run once everything it comes after has.
struct Operation {
  enum class State { waiting, running, done };
  State state = State::waiting;
  std::shared_ptr<Work> work;
  Device* device = nullptr;
  std::vector<std::shared_ptr<Operation>> after;  // cleared when done
};

struct Stream {
  static constexpr size_t kCapacity = 1024;  // operations; as on hardware, a full stream makes the caller wait

  uint64_t id = 0;
  Device* device = nullptr;
  unsigned flags = 0;
  int priority = 0;
  bool legacy = false;  // the default stream: in order with every blocking stream
  bool blocking() const { return !legacy && !(flags & cudaStreamNonBlocking); }

  std::deque<std::shared_ptr<Operation>> pending;  // not done, oldest first; those that are done leave lazily
  std::shared_ptr<Operation> last() {
    forget_done();
    return pending.empty() ? nullptr : pending.back();
  }
  void forget_done() {
    while (!pending.empty() && pending.front()->state == Operation::State::done) pending.pop_front();
  }

  std::shared_ptr<Capture> capture;  // set while what is enqueued goes into a graph instead
  std::vector<GraphNode*> frontier;  // the nodes that the next one comes after
};

struct Event {
  Device* device = nullptr;
  unsigned flags = 0;
  std::shared_ptr<Operation> recorded;  // the last record, done or not; nullptr: never recorded
  std::shared_ptr<Capture> capture;     // recorded in a stream that was being captured
  std::vector<GraphNode*> frontier;
};

}  // namespace foretoken::ptx::runtime
