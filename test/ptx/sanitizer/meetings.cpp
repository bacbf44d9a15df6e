#include "meetings.h"

namespace foretoken::sanitizer {

namespace {

void add(Views& to, uint32_t cluster, const Clock& clock) {
  to.join(clock.remote);
  to.add(cluster, std::make_shared<const View>(clock.local));
}

void join(Clock& to, uint32_t cluster, const Views& from) {
  from.for_each([&](uint32_t number, const std::shared_ptr<const View>& view) {
    if (number == cluster)
      to.local.join(*view);
    else
      to.remote.add(number, view);
  });
}

}  // namespace

void PublishedWords::publish(uint64_t address, uint32_t bytes, uint32_t cluster, const Clock& clock, Reach reach,
                             bool adds) {
  for (uint64_t word = address / kWordBytes; word <= (address + bytes - 1) / kWordBytes; ++word) {
    Word& there = words_[word];
    if (!adds) there = {};
    if (reach == Reach::device) {
      add(there.device, cluster, clock);
    } else {
      if (there.block_cluster != cluster) there.block = {};
      there.block_cluster = cluster;
      add(there.block, cluster, clock);
    }
  }
}

void PublishedWords::overwrite(uint64_t address, uint32_t bytes) {
  if (words_.empty()) return;
  for (uint64_t word = address / kWordBytes; word <= (address + bytes - 1) / kWordBytes; ++word) words_.erase(word);
}

bool PublishedWords::acquire(uint64_t address, uint32_t bytes, uint32_t cluster, Clock& clock) const {
  if (words_.empty()) return false;
  bool any = false;
  for (uint64_t word = address / kWordBytes; word <= (address + bytes - 1) / kWordBytes; ++word) {
    const auto it = words_.find(word);
    if (it == words_.end()) continue;
    any = true;
    join(clock, cluster, it->second.device);
    if (it->second.block_cluster == cluster) join(clock, cluster, it->second.block);
  }
  return any;
}

}  // namespace foretoken::sanitizer
