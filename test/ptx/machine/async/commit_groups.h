// Groups of operations, as commit_group and wait_group count them: each thread its own.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "../instruction.h"

namespace foretoken::machine {

template <class Entry>
class CommitGroups {
 public:
  void add(Mask lanes, Entry entry) { open_.push_back({lanes, std::move(entry)}); }

  // What these lanes have added since their last commit is a group, be it empty.
  void commit(Mask lanes) {
    Group group{lanes, {}};
    for (Added& added : open_) {
      if (!(added.lanes & lanes)) continue;
      group.entries.push_back(added.entry);
      added.lanes &= ~lanes;
    }
    std::erase_if(open_, [](const Added& added) { return added.lanes == 0; });
    groups_.push_back(std::move(group));
  }

  // finish(lanes, entry) for what may no longer be pending when each of the lanes allows itself its `allowed` newest
  // groups. Those groups are forgotten, unless they are waited for a second time (`keep`: wait_group.read).
  template <class Finish>
  void wait(Mask lanes, uint32_t allowed, bool keep, Finish finish) {
    allowed = std::min<uint32_t>(allowed, static_cast<uint32_t>(groups_.size()));
    std::vector<Mask> newer(allowed, 0);  // [n] lanes that have seen more than n groups
    std::vector<std::pair<Mask, Group*>> due;
    for (auto group = groups_.rbegin(); group != groups_.rend(); ++group) {
      const Mask counted = allowed == 0 ? kAllLanes : newer[allowed - 1];
      if (const Mask waits = group->lanes & lanes & counted) due.push_back({waits, &*group});
      for (uint32_t n = allowed; n-- > 1;) newer[n] |= newer[n - 1] & group->lanes;
      if (allowed) newer[0] |= group->lanes;
    }
    for (auto one = due.rbegin(); one != due.rend(); ++one)
      for (const Entry& entry : one->second->entries) finish(one->first, entry);
    if (keep) return;
    for (auto& [waited, group] : due) group->lanes &= ~waited;
    std::erase_if(groups_, [](const Group& group) { return group.lanes == 0; });
  }

  // Everything that is not forgotten, committed or not.
  template <class Visit>
  void for_each(Mask lanes, Visit visit) const {
    for (const Group& group : groups_)
      if (group.lanes & lanes)
        for (const Entry& entry : group.entries) visit(entry);
    for (const Added& added : open_)
      if (added.lanes & lanes) visit(added.entry);
  }

 private:
  struct Added {
    Mask lanes;
    Entry entry;
  };
  struct Group {
    Mask lanes;  // that have not waited for it yet
    std::vector<Entry> entries;
  };
  std::vector<Added> open_;
  std::vector<Group> groups_;  // oldest first
};

}  // namespace foretoken::machine
