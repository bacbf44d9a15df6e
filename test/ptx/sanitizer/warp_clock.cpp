#include "warp_clock.h"

#include <algorithm>

namespace foretoken::sanitizer {

namespace {

// Beyond so many different sets of lanes they are taken to know alike.
constexpr size_t kMostPartial = 16;

}  // namespace

void WarpClock::release(Mask lanes, Clock& into) {
  into.join(*common_);
  for (const Partial& partial : partial_)
    if (partial.lanes & lanes) into.join(partial.clock);
  into.local.seen.learn(agent_, now_, lanes | absent_);
  learn_copies(lanes, into);
  learn_synced(lanes, into);
  advance();
}

void WarpClock::learn_synced(Mask lanes, Clock& into) const {
  if (!synced_) return;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (lanes >> lane & 1)
      for (uint32_t of = 0; of < 32; ++of)
        if ((*synced_)[lane][of]) into.local.seen.learn(agent_, (*synced_)[lane][of], 1u << of);
}

void WarpClock::learn_copies(Mask lanes, Clock& into) const {
  if (!copies_joined_) return;
  const auto [least, most] = std::minmax_element(copied_.begin(), copied_.end());
  if (*least == *most) return into.local.seen.learn(copies_, *least, lanes | absent_);
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((lanes | absent_) >> lane & 1) into.local.seen.learn(copies_, copied_[lane], 1u << lane);
}

void WarpClock::join_copies(Mask lanes, uint32_t time) {
  copies_joined_ = true;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (lanes >> lane & 1) copied_[lane] = std::max(copied_[lane], time);
}

Clock& WarpClock::clock_of(Mask lanes, Mask live) {
  if ((live & ~lanes) == 0) return change_common();
  for (Partial& partial : partial_)
    if (partial.lanes == lanes) return partial.clock;
  if (partial_.size() == kMostPartial) {
    Clock& common = change_common();
    for (const Partial& partial : partial_) common.join(partial.clock);
    partial_.clear();
  }
  partial_.push_back({lanes, {}});
  return partial_.back().clock;
}

void WarpClock::acquire(Mask lanes, Mask live, const Clock& from) { clock_of(lanes, live).join(from); }

void WarpClock::sync(Mask lanes, Mask live) {
  if ((live & ~lanes) == 0) {
    Clock& common = change_common();
    for (const Partial& partial : partial_) common.join(partial.clock);
    common.local.seen.learn(agent_, now_, lanes | absent_);
    learn_copies(lanes, common);
    agree();
  } else {
    Partial together{lanes, {}};
    for (Partial& partial : partial_) {
      if (!(partial.lanes & lanes)) continue;
      together.clock.join(partial.clock);
      partial.lanes &= ~lanes;
    }
    std::erase_if(partial_, [](const Partial& partial) { return partial.lanes == 0; });
    learn_copies(lanes, together.clock);
    if (!together.clock.local.seen.empty() || !together.clock.remote.empty()) partial_.push_back(std::move(together));
    if (!synced_) synced_ = std::make_unique<std::array<std::array<uint32_t, 32>, 32>>();
    std::array<uint32_t, 32> row{};
    for (uint32_t lane = 0; lane < 32; ++lane)
      if (lanes >> lane & 1) {
        for (uint32_t of = 0; of < 32; ++of) row[of] = std::max(row[of], (*synced_)[lane][of]);
        row[lane] = now_;
      }
    for (uint32_t lane = 0; lane < 32; ++lane)
      if (lanes >> lane & 1) (*synced_)[lane] = row;
  }
  advance();
}

void WarpClock::proxy_fence(Mask lanes, Mask live) {
  Clock known;
  release(lanes, known);
  clock_of(lanes, live).local.fenced.join(known.local.seen);
}

void WarpClock::fence(Mask lanes, Mask live, Reach reach) {
  for (Fence& fence : fences_) fence.lanes &= ~lanes;
  std::erase_if(fences_, [](const Fence& fence) { return fence.lanes == 0; });
  for (Partial& read : unfenced_) {
    if (!(read.lanes & lanes)) continue;
    acquire(read.lanes & lanes, live, read.clock);
    read.lanes &= ~lanes;
  }
  std::erase_if(unfenced_, [](const Partial& read) { return read.lanes == 0; });
  fences_.push_back({lanes, reach, {}});
  release(lanes, fences_.back().clock);
}

void WarpClock::remember(Mask lanes, const Clock& clock) {
  for (Partial& read : unfenced_)
    if (read.lanes == lanes) return read.clock.join(clock);
  unfenced_.push_back({lanes, clock});
}

std::shared_ptr<const Clock> WarpClock::snapshot(Mask lanes) const {
  // Its own copies that it waited for and nobody else knows of: Operation::copied.
  const bool plain =
      !synced_ && std::none_of(partial_.begin(), partial_.end(), [&](const Partial& p) { return p.lanes & lanes; });
  if (plain) return common_;
  auto result = std::make_shared<Clock>(*common_);
  for (const Partial& partial : partial_)
    if (partial.lanes & lanes) result->join(partial.clock);
  learn_synced(lanes, *result);
  return result;
}

bool WarpClock::lane_knows(uint32_t lane, uint32_t agent, uint32_t time, Mask lanes) const {
  if (common_->local.seen.covers(agent, time, lanes)) return true;
  if (synced_ && agent == agent_) {
    Mask rest = lanes;
    for (uint32_t of = 0; of < 32; ++of)
      if ((*synced_)[lane][of] >= time) rest &= ~(1u << of);
    if (rest == 0) return true;
  }
  return std::any_of(partial_.begin(), partial_.end(), [&](const Partial& partial) {
    return partial.lanes >> lane & 1 && partial.clock.local.seen.covers(agent, time, lanes);
  });
}

bool WarpClock::lane_knows_remote(uint32_t lane, uint32_t cluster, uint32_t agent, uint32_t time, Mask lanes) const {
  const auto covers = [&](const Clock& clock) {
    const View* view = clock.remote.find(cluster);
    return view && view->seen.covers(agent, time, lanes);
  };
  if (covers(*common_)) return true;
  return std::any_of(partial_.begin(), partial_.end(),
                     [&](const Partial& partial) { return partial.lanes >> lane & 1 && covers(partial.clock); });
}

}  // namespace foretoken::sanitizer
