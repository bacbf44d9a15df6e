#include "allocator.h"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "cgroup.h"
#include "text_file.h"

namespace foretoken {

constexpr int64_t kSmall = 1 << 20;  // bytes; blocks from here on are large
constexpr int64_t kDryReserve = int64_t{1} << 45;
// Bytes to purge at a time: a system call costs as much as clearing a few pages, on a GPU one has to wait for it.
constexpr int64_t kLeastPurge = 2 << 20, kLeastGpuPurge = 256 << 20;

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

static int64_t default_limit(const Allocator::Settings& settings) {
  if (settings.dry) return std::numeric_limits<int64_t>::max();
  return settings.gpu ? settings.gpu->default_limit() : memory_of_machine();
}

Allocator::Allocator(Settings settings) : settings_(std::move(settings)) {
  int64_t reserve = kDryReserve;
  if (settings_.limit <= 0) settings_.limit = default_limit(settings_);
  // Twice the limit: room for what fragmentation leaves unused. Addresses cost nothing.
  if (!settings_.dry) reserve = std::min(kDryReserve, round_up(2 * settings_.limit + (64 << 20), Pages::kUnit));
  for (auto& zone : zones_) zone = std::make_unique<Zone>(reserve, new_backing());
}

std::shared_ptr<Backing> Allocator::new_backing() {
  std::shared_ptr<Backing> backing;
  if (settings_.gpu) {
    backing = settings_.gpu->backing();
    apart_ = !backing;
  } else if (!settings_.dry) {
    return system_memory();
  }
  if (backing) return backing;
  return no_memory(settings_.of_gpu ? kGpuPage : system_memory()->page_bytes());
}

std::optional<Allocator::Block> Allocator::allocate(int64_t requested, Tag tag, Failure& failure) {
  const int64_t bytes = std::max(kAlignment, round_up(requested, kAlignment));
  const bool large = bytes >= kSmall;
  Zone& zone = *zones_[large];
  BlockId id = owner_ ? zone.arena.take(bytes, owner_) : Arena::kNone;
  const bool reused = id != Arena::kNone;
  if (!reused && bytes <= settings_.limit - ledger_.total.live) id = take_fresh(zone, bytes);
  void* data = nullptr;
  if (id != Arena::kNone) data = apart_ ? settings_.gpu->allocate(requested) : zone.pages.at(zone.arena[id].offset);
  if (!data) {
    if (id != Arena::kNone) zone.arena.give_back(id);
    failure = out_of_memory(bytes, tag);
    return std::nullopt;
  }
  if (reused)
    ledger_.by_tag[static_cast<int>(Tag::recording)].add(-bytes);
  else
    ledger_.total.add(bytes);
  ledger_.by_tag[static_cast<int>(tag)].add(bytes);
  ledger_.requested += requested;
  if (owner_) zone.arena.transfer(id, owner_);
  return Block{data, id, large, tag, requested};
}

Failure Allocator::out_of_memory(int64_t bytes, Tag tag) const {
  const bool within = bytes <= settings_.limit - ledger_.total.live;
  return {.code = "OUT_OF_MEMORY",
          .op = "allocate",
          .argument = kTagNames[static_cast<int>(tag)],
          .text = "no memory for " + std::to_string(bytes) + " bytes more: " + std::to_string(ledger_.total.live) +
                  " are live and the limit is " + std::to_string(settings_.limit) +
                  (within ? ", but the device has no more to give" : "")};
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
    make_room(ledger_.total.live + bytes, fresh);
    if (!touch(zone, offset, bytes)) {
      zone.arena.give_back(id);
      return Arena::kNone;
    }
  }
  return id;
}

// False when there is no memory, with all that is free given back.
bool Allocator::touch(Zone& zone, int64_t offset, int64_t bytes) {
  if (zone.pages.touch(offset, bytes)) return true;
  for (auto& any : zones_) purge_free(*any, std::numeric_limits<int64_t>::max());
  return zone.pages.touch(offset, bytes);
}

// Memory that stays free while fresh memory is taken is fragmentation: pages of it go back to the system, so that a
// loop settles within the slack of its peak.
void Allocator::make_room(int64_t live, int64_t fresh) {
  const int64_t limit = std::min(settings_.limit, kDryReserve);
  const int64_t bound = settings_.of_gpu ? limit : std::max(ledger_.total.peak, live);
  const int64_t slack = (4 << 20) + bound / 64;
  const int64_t least = settings_.of_gpu ? kLeastGpuPurge : kLeastPurge;
  int64_t excess = resident() + fresh - bound - slack;
  for (int zone : {1, 0})
    if (excess > 0) excess -= purge_free(*zones_[zone], std::max(excess, least));
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
  if (apart_) release(block.data, zone.arena[block.id].owner);
  zone.arena.give_back(block.id);
}

void Allocator::release(void* data, Arena::Owner owner) {
  if (owner)
    kept_apart_[owner].push_back(data);
  else
    settings_.gpu->free(data);
}

Arena::Owner Allocator::begin_recording() { return owner_ = ++last_recording_; }

void Allocator::release_recording(Arena::Owner recording) {
  for (auto& zone : zones_) {
    const int64_t bytes = zone->arena.release(recording);
    ledger_.total.add(-bytes);
    ledger_.by_tag[static_cast<int>(Tag::recording)].add(-bytes);
  }
  for (void* data : kept_apart_[recording]) settings_.gpu->free(data);
  kept_apart_.erase(recording);
}

}  // namespace foretoken
