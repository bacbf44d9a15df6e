#include "clock.h"

#include <algorithm>

namespace foretoken::sanitizer {

bool Knowledge::covers_lanes(uint32_t agent, uint32_t time, Mask lanes) const {
  for (const Some& some : some_)
    if (some.agent == agent && some.time >= time) lanes &= ~some.lanes;
  return lanes == 0;
}

void Knowledge::learn(uint32_t agent, uint32_t time, Mask lanes) {
  if (lanes == kAllLanes) {
    if (agent >= all_.size()) all_.resize(agent + 1, 0);
    all_[agent] = std::max(all_[agent], time);
    if (!some_.empty()) drop_covered();
  } else if (!covers(agent, time, lanes)) {
    add({agent, time, lanes});
  }
}

void Knowledge::join(const Knowledge& other) {
  if (other.all_.size() > all_.size()) all_.resize(other.all_.size(), 0);
  uint32_t* mine = all_.data();
  const uint32_t* theirs = other.all_.data();
  for (size_t k = 0; k < other.all_.size(); ++k) mine[k] = std::max(mine[k], theirs[k]);
  for (const Some& some : other.some_)
    if (!covers(some.agent, some.time, some.lanes)) add(some);
  if (!some_.empty()) drop_covered();
}

void Knowledge::add(const Some& entry) {
  std::erase_if(some_, [&](const Some& old) {
    return old.agent == entry.agent && old.time <= entry.time && (old.lanes & ~entry.lanes) == 0;
  });
  some_.push_back(entry);
  // Together they may be all lanes, up to the least of their times.
  Mask rest = kAllLanes;
  for (const Some& some : some_)
    if (some.agent == entry.agent) rest &= ~some.lanes;
  if (rest) return;
  std::vector<Some> newest;
  std::copy_if(some_.begin(), some_.end(), std::back_inserter(newest),
               [&](const Some& some) { return some.agent == entry.agent; });
  std::sort(newest.begin(), newest.end(), [](const Some& a, const Some& b) { return a.time > b.time; });
  rest = kAllLanes;
  for (const Some& some : newest) {
    rest &= ~some.lanes;
    if (rest == 0) return learn(entry.agent, some.time, kAllLanes);
  }
}

void Knowledge::drop_covered() {
  std::erase_if(some_, [&](const Some& some) { return some.agent < all_.size() && all_[some.agent] >= some.time; });
}

void Views::add(uint32_t cluster, const std::shared_ptr<const View>& view) {
  const View* known = find(cluster);
  if (known == view.get()) return;
  auto map = map_ ? std::make_shared<Map>(*map_) : std::make_shared<Map>();
  if (known) {
    auto joined = std::make_shared<View>(*known);
    joined->join(*view);
    (*map)[cluster] = joined;
  } else {
    (*map)[cluster] = view;
  }
  map_ = std::move(map);
}

void Views::join(const Views& other) {
  if (other.map_ == map_ || !other.map_) return;
  if (!map_) {
    map_ = other.map_;
    return;
  }
  const auto theirs = other.map_;
  for (const auto& [cluster, view] : *theirs) add(cluster, view);
}

}  // namespace foretoken::sanitizer
