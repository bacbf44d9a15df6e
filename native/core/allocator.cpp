#include "allocator.h"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "cgroup.h"
#include "text_file.h"

namespace foretoken {

constexpr int64_t kSmall = 1 << 20;  // bytes; blocks from here on are large
constexpr int64_t kDryReserve = int64_t{1} << 45;
constexpr int64_t kLeastPurge = 2 << 20;  // bytes at a time: a system call costs as much as clearing a few pages

static int64_t round_up(int64_t bytes, int64_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

int64_t memory_of_machine() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  for (const std::string& folder : cgroup_folders("memory"))
    for (const char* file : {"/memory.max", "/memory.limit_in_bytes"}) {
      const double limit = read_number(folder + file, 0);  // "max" where there is none
      if (limit > 0 && limit < static_cast<double>(bytes)) bytes = static_cast<int64_t>(limit);
    }
  return bytes;
}

Allocator::Allocator(Settings settings) : settings_(std::move(settings)) {
  int64_t reserve = kDryReserve;
  if (settings_.limit <= 0) settings_.limit = settings_.dry ? std::numeric_limits<int64_t>::max() : memory_of_machine();
  // Twice the limit: room for what fragmentation leaves unused. Addresses cost nothing.
  if (!settings_.dry) reserve = std::min(kDryReserve, round_up(2 * settings_.limit + (64 << 20), Pages::kUnit));
  for (auto& zone : zones_) zone = std::make_unique<Zone>(reserve, settings_.dry);
}

std::optional<Allocator::Block> Allocator::allocate(int64_t requested, Tag tag, Failure& failure) {
  const int64_t bytes = std::max(kAlignment, round_up(requested, kAlignment));
  const bool large = bytes >= kSmall;
  Zone& zone = *zones_[large];
  BlockId id = owner_ ? zone.arena.take(bytes, owner_) : Arena::kNone;
  const bool reused = id != Arena::kNone;
  if (!reused && bytes <= settings_.limit - ledger_.total.live) id = take_fresh(zone, bytes);
  if (id == Arena::kNone) {
    failure = {.code = "OUT_OF_MEMORY",
               .op = "allocate",
               .argument = kTagNames[static_cast<int>(tag)],
               .text = "no memory for " + std::to_string(bytes) + " bytes more: " + std::to_string(ledger_.total.live) +
                       " are live and the limit is " + std::to_string(settings_.limit)};
    return std::nullopt;
  }
  if (reused)
    ledger_.by_tag[static_cast<int>(Tag::recording)].add(-bytes);
  else
    ledger_.total.add(bytes);
  ledger_.by_tag[static_cast<int>(tag)].add(bytes);
  ledger_.requested += requested;
  if (owner_) zone.arena.transfer(id, owner_);
  return Block{zone.pages.at(zone.arena[id].offset), id, large, tag, requested};
}

// From everyone's memory.
BlockId Allocator::take_fresh(Zone& zone, int64_t bytes) {
  const BlockId id = zone.arena.take(bytes, 0);
  if (id == Arena::kNone) return id;
  const int64_t offset = zone.arena[id].offset;
  if (!zone.pages.grow(offset + bytes)) {
    zone.arena.give_back(id);
    return Arena::kNone;
  }
  if (const int64_t fresh = zone.pages.untouched(offset, bytes)) {
    keep_resident_below_peak(ledger_.total.live + bytes, fresh);
    zone.pages.touch(offset, bytes);
  }
  return id;
}

// Memory that stays free while fresh memory is taken is fragmentation: pages of it go back to the system, so that a
// loop settles within the slack of its peak.
void Allocator::keep_resident_below_peak(int64_t live, int64_t fresh) {
  const int64_t peak = std::max(ledger_.total.peak, live);
  const int64_t slack = (4 << 20) + peak / 64;
  int64_t excess = resident() + fresh - peak - slack;
  for (int zone : {1, 0})
    if (excess > 0) excess -= purge_free(*zones_[zone], std::max(excess, kLeastPurge));
}

int64_t Allocator::purge_free(Zone& zone, int64_t wanted) {
  const int64_t before = zone.pages.resident();
  std::vector<Pages::Span> spans;
  zone.arena.visit_free([&](const Arena::Block& block) {
    const int64_t purged = before - zone.pages.resident();
    if (const auto span = zone.pages.forget(block.offset, block.bytes, wanted - purged); span.bytes)
      spans.push_back(span);
    return before - zone.pages.resident() < wanted;
  });
  if (!spans.empty())
    settings_.after_enqueued([&pages = zone.pages, spans = std::move(spans)] {
      for (const Pages::Span& span : spans) pages.purge(span);
    });
  return before - zone.pages.resident();
}

void Allocator::free(const Block& block) {
  Zone& zone = *zones_[block.large];
  const int64_t bytes = zone.arena[block.id].bytes;
  ledger_.by_tag[static_cast<int>(block.tag)].add(-bytes);
  ledger_.requested -= block.requested;
  if (zone.arena[block.id].owner)
    ledger_.by_tag[static_cast<int>(Tag::recording)].add(bytes);
  else
    ledger_.total.add(-bytes);
  zone.arena.give_back(block.id);
}

Arena::Owner Allocator::begin_recording() { return owner_ = ++last_recording_; }

void Allocator::release_recording(Arena::Owner recording) {
  for (auto& zone : zones_) {
    const int64_t bytes = zone->arena.release(recording);
    ledger_.total.add(-bytes);
    ledger_.by_tag[static_cast<int>(Tag::recording)].add(-bytes);
  }
}

}  // namespace foretoken
