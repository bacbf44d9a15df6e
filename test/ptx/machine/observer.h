// What a sanitizer may listen to. Without one (Launch::observer is null) nothing of this costs anything.
#pragma once
#include <cstdint>
#include <string>

namespace foretoken::machine {

struct Context;
struct Launch;
struct Block;
struct Split;

enum class Space : uint8_t { generic, global, constant, shared, local, parameter };
enum class AccessKind : uint8_t { read, write, atomic };
enum class Order : uint8_t {
  weak,
  relaxed,
  acquire,
  release,
  acquire_release,
  sequential,
  mmio
};  // .volatile: relaxed
enum class Scope : uint8_t { none, block, cluster, device, system };
enum class Proxy : uint8_t { generic, asynchronous };

// One instruction's accesses by the lanes of one warp, or one piece of an asynchronous operation.
struct MemoryEvent {
  Space space = Space::global;  // never generic: resolved
  AccessKind kind = AccessKind::read;
  Order order = Order::weak;
  Scope scope = Scope::none;
  Proxy proxy = Proxy::generic;
  uint32_t lanes = 0;                   // mask; for asynchronous pieces: bit 0
  const uint64_t* addresses = nullptr;  // [32], by lane; shared: rank << 24 | offset
  uint32_t bytes = 0;                   // per lane
  const void* values = nullptr;         // [32][bytes] what a store is about to write; null: not told
  uint64_t agent = 0;                   // 0: the warp itself; else the asynchronous operation's number
};

enum class SyncKind : uint8_t {
  warp,             // bar.warp.sync, when all `lanes` have come. object: the warp
  barrier_arrive,   // object: the barrier; release
  barrier_leave,    // object: the barrier; acquire
  cluster_arrive,   // barrier.cluster.arrive; release
  cluster_leave,    // barrier.cluster.wait; acquire
  mbarrier_arrive,  // object: address of the mbarrier (rank << 24 | offset); release
  mbarrier_leave,   // a successful test_wait or try_wait; acquire
  fence,            // membar, fence: scope in `scope`
  proxy_fence,      // fence.proxy.async
  agent_start,      // object: the asynchronous operation's number; what came before is before it
  agent_commit,     // wgmma.commit_group: what was started since the last is waited for together
  agent_complete,   // object: the asynchronous operation's number: its effects are there
  agent_join,       // wait_group and the like: object: the operation's number; acquire
  agent_join_reads  // wait_group.read: only the operation's reads are over
};

struct SyncEvent {
  SyncKind kind = SyncKind::warp;
  uint32_t lanes = 0;
  uint64_t object = 0;
  uint64_t phase = 0;    // barrier_arrive, _leave: the barrier's, the first is 0
  uint64_t agent = 0;    // mbarrier_arrive: not 0 if this operation arrives, not the lanes
  uint64_t barrier = 0;  // agent_start: address of the mbarrier that its bytes will come to
  Scope scope = Scope::none;
  Order order = Order::acquire_release;
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_launch(Launch&) {}
  virtual void on_launch_end(Launch&) {}
  virtual void on_block_start(Block&) {}
  virtual void on_block_end(Block&) {}
  virtual void on_access(Context&, const MemoryEvent&) {}  // before it takes effect
  virtual void on_sync(Context&, const SyncEvent&) {}
  virtual void on_print(Context&, int /*lane*/, const std::string&) {}  // a device printf
};

}  // namespace foretoken::machine
