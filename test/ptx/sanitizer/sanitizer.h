// The observer that finds what a run happened to survive: accesses without an order between them, and reads through
// the asynchronous proxy without a fence. (Undefined values, bounds and deadlocks the machine finds by itself.)
//
// A fault names both accesses. Of two writes without an order the later is let pass if it writes what is there already:
// nobody can tell which came last.
#pragma once
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "accesses.h"
#include "cluster_state.h"
#include "machine/observer.h"

namespace foretoken::sanitizer {

class Sanitizer final : public machine::Observer {
 public:
  // Device addresses are in [base, base + bytes).
  Sanitizer(uint64_t base, uint64_t bytes);

  void on_launch(machine::Launch& launch) override;
  void on_block_start(machine::Block& block) override;
  void on_access(machine::Context& c, const machine::MemoryEvent& event) override;
  void on_sync(machine::Context& c, const machine::SyncEvent& event) override;
  void on_print(machine::Context& c, int lane, const std::string& text) override;

  // "written by thread (3,0,0) of block (0,0,0) of kernel k, at k.cu:40", "" if nothing is known of it: who wrote a
  // byte of global memory last. Kernels' code must still be there.
  std::string last_writer(uint64_t address);
  // Nobody will ask about these any more.
  void forget(uint64_t address, uint64_t bytes) { global_.forget(address, bytes); }

 private:
  struct Accessor {
    Actor actor;
    Epoch epoch;
  };
  struct LaunchRecord {
    uint32_t first_cluster = 0;
    std::string kernel;
    const machine::Code* code = nullptr;
    machine::LaunchShape shape;
  };

  void forget_ended(std::span<const std::unique_ptr<machine::Cluster>> resident);
  ClusterState& state_of(const machine::Cluster& cluster);
  Shadow* shadow_of(ClusterState& state, const machine::MemoryEvent& event);
  Accessor accessor(machine::Context& c, ClusterState& state, const machine::MemoryEvent& event,
                    const Operation* operation);
  void check_same_instruction(machine::Context& c, const machine::MemoryEvent& event, Mask& lanes) const;
  bool is_benign(const machine::Context& c, const machine::MemoryEvent& event, const Conflict& conflict) const;
  [[noreturn]] void report(machine::Context& c, const machine::MemoryEvent& event, const Conflict& conflict);
  std::string describe(const Reader& access, bool is_write) const;
  std::string thread_of(const LaunchRecord& launch, const Reader& access) const;

  void acquire_word(machine::Context& c, ClusterState& state, const machine::MemoryEvent& event);
  void publish_word(machine::Context& c, ClusterState& state, const machine::MemoryEvent& event);

  void start_operation(machine::Context& c, ClusterState& state, const machine::SyncEvent& event);
  void join_operation(machine::Context& c, ClusterState& state, const machine::SyncEvent& event);
  void arrive(machine::Context& c, ClusterState& state, Clock& at, Mask lanes, machine::Order order);
  void touch_mbarrier(machine::Context& c, const machine::SyncEvent& event);
  void arrive_at_mbarrier(machine::Context& c, ClusterState& state, const machine::SyncEvent& event);
  void leave_mbarrier(machine::Context& c, ClusterState& state, const machine::SyncEvent& event);

  Shadow global_;
  PublishedWords global_words_;
  Operations operations_;
  std::map<const machine::Cluster*, std::unique_ptr<ClusterState>> clusters_;
  ClusterState* latest_ = nullptr;
  std::vector<std::unique_ptr<Shadow>> free_shadows_;
  std::vector<LaunchRecord> launches_;  // by first_cluster; the last is the one that runs
  uint32_t next_cluster_ = 1;
};

}  // namespace foretoken::sanitizer
