// Vector clocks: which accesses of which agents one knows of. (Flanagan and Freund, "FastTrack", 2009.)
//
// A component is kept per warp, not per thread. What only some lanes of a warp have published is kept beside it, so
// that a lane which arrives somewhere alone does not speak for its neighbours.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "epoch.h"

namespace foretoken::sanitizer {

// Of the agents of one cluster.
class Knowledge {
 public:
  bool covers_all(uint32_t agent, uint32_t time) const { return agent < all_.size() && all_[agent] >= time; }
  bool covers(uint32_t agent, uint32_t time, Mask lanes) const {
    if (covers_all(agent, time)) [[likely]]
      return true;
    return !some_.empty() && covers_lanes(agent, time, lanes);
  }
  bool covers(Epoch epoch, uint32_t bytes) const { return covers(epoch.agent(), epoch.time(), epoch.lanes(bytes)); }
  // The accesses of these lanes of the agent up to that time.
  void learn(uint32_t agent, uint32_t time, Mask lanes);
  void join(const Knowledge& other);
  bool empty() const { return all_.empty() && some_.empty(); }

 private:
  struct Some {
    uint32_t agent, time;
    Mask lanes;
  };
  bool covers_lanes(uint32_t agent, uint32_t time, Mask lanes) const;
  void add(const Some& entry);
  void drop_covered();

  std::vector<uint32_t> all_;  // [agent] of all its lanes, up to that time; 0: none
  std::vector<Some> some_;     // later ones, of some lanes
};

// What has been seen, and which of the generic proxy's writes a fence.proxy.async lies behind.
struct View {
  Knowledge seen, fenced;
  void join(const View& other) {
    seen.join(other.seen);
    fenced.join(other.fenced);
  }
};

// What is known of the agents of several clusters, by number. Views are shared, hence never changed.
class Views {
 public:
  const View* find(uint32_t cluster) const {
    if (!map_) return nullptr;
    const auto it = map_->find(cluster);
    return it == map_->end() ? nullptr : it->second.get();
  }
  void add(uint32_t cluster, const std::shared_ptr<const View>& view);
  void join(const Views& other);
  bool empty() const { return !map_; }
  // visit(cluster, view) for each.
  template <class Visit>
  void for_each(Visit visit) const {
    if (map_)
      for (const auto& [cluster, view] : *map_) visit(cluster, view);
  }

 private:
  using Map = std::map<uint32_t, std::shared_ptr<const View>>;
  std::shared_ptr<const Map> map_;
};

// All that an agent of a cluster knows.
struct Clock {
  View local;    // of its own cluster
  Views remote;  // of others
  void join(const Clock& other) {
    local.join(other.local);
    remote.join(other.remote);
  }
};

}  // namespace foretoken::sanitizer
