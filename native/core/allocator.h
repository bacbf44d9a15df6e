// The caching allocator of a device. A freed block is reusable at once by what is enqueued later on the same stream, so
// everything is decided on the calling thread: equal sequences of calls give equal places and an equal ledger.
//
// Promise: what is resident stays near the ledger's peak. Before memory that was never touched is handed out, free
// pages are given back to the system if otherwise more than the peak would be resident (see make_room). On a GPU, where
// giving back means waiting, the bound is the limit in the peak's place.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "arena.h"
#include "failure.h"
#include "gpu.h"
#include "ledger.h"
#include "pages.h"

namespace foretoken {

class Allocator {
 public:
  static constexpr int64_t kAlignment = 64;

  struct Settings {
    bool dry = false;
    int64_t limit = 0;  // bytes that may be live
    // Calls the function after what is enqueued by now has run.
    std::function<void(std::function<void()>)> after_enqueued = {};
    bool of_gpu = false;  // keeps the ledger of a GPU
    Gpu* gpu = nullptr;   // whose memory it is; nullptr: the system's, or none when dry
  };

  struct Block {
    void* data = nullptr;
    BlockId id = Arena::kNone;
    bool large = false;
    Tag tag = Tag::other;
    int64_t requested = 0;
  };

  explicit Allocator(Settings settings);

  // Contents are undefined, 0 bytes get an address of their own.
  std::optional<Block> allocate(int64_t bytes, Tag tag, Failure& failure);
  void free(const Block& block);

  const Ledger& ledger() const { return ledger_; }
  void reset_peak() { ledger_.reset_peak(); }
  int64_t resident() const { return zones_[0]->pages.resident() + zones_[1]->pages.resident(); }

  // Between begin and end, blocks come from memory that the recording keeps: what is freed in it is reused in it alone,
  // since a replay writes there again. release_recording gives its memory back to everyone.
  Arena::Owner begin_recording();
  void end_recording() { owner_ = 0; }
  void release_recording(Arena::Owner recording);

 private:
  // Small blocks live apart, or one long-lived number in the middle of a large hole would make it useless.
  struct Zone {
    Zone(int64_t bytes, std::shared_ptr<Backing> backing) : pages(bytes, std::move(backing)), arena(pages.bytes()) {}
    Pages pages;
    Arena arena;
  };

  std::shared_ptr<Backing> new_backing();
  BlockId take_fresh(Zone& zone, int64_t bytes);
  bool touch(Zone& zone, int64_t offset, int64_t bytes);
  void make_room(int64_t live, int64_t fresh);
  int64_t purge_free(Zone& zone, int64_t wanted);
  void release(void* data, Arena::Owner owner);
  Failure out_of_memory(int64_t bytes, Tag tag) const;

  Settings settings_;
  std::unique_ptr<Zone> zones_[2];  // small, large
  Ledger ledger_;
  Arena::Owner owner_ = 0, last_recording_ = 0;
  bool apart_ = false;                                     // each block has memory of its own; the arena only counts
  std::map<Arena::Owner, std::vector<void*>> kept_apart_;  // freed in a recording, and still written by its replays
};

// What this process may use: the machine's memory, or its cgroup's limit where that is less.
int64_t memory_of_machine();

}  // namespace foretoken
