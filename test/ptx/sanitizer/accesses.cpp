#include "accesses.h"

#include <algorithm>

namespace foretoken::sanitizer {

namespace {

// Whether what the lane does now comes after an access by these lanes of an agent.
bool lane_is_after(const Actor& actor, uint32_t lane, const Reader& earlier, Mask lanes) {
  const uint32_t agent = earlier.epoch.agent(), time = earlier.epoch.time();
  if (earlier.cluster != actor.cluster) {
    if (actor.warp) return actor.warp->lane_knows_remote(lane, earlier.cluster, agent, time, lanes);
    const View* view = actor.clock->remote.find(earlier.cluster);
    return view && view->seen.covers(agent, time, lanes);
  }
  if (lanes == 1u << lane && time <= actor.own_until(lane, agent)) return true;
  if (actor.warp) return actor.warp->lane_knows(lane, agent, time, lanes);
  return actor.clock->local.seen.covers(agent, time, lanes);
}

// After how many lanes the addresses repeat; 32: they do not.
uint32_t period_of(const uint64_t* addresses) {
  uint32_t period = 32;
  while (period > 1) {
    const uint32_t half = period / 2;
    uint64_t difference = 0;
    for (uint32_t lane = 0; lane < half; ++lane) difference |= addresses[lane] ^ addresses[lane + half];
    if (difference) break;
    period = half;
  }
  return period;
}

}  // namespace

bool Visitor::visit(const uint64_t* addresses, Mask lanes, uint32_t bytes) {
  stretch_.shift = static_cast<uint32_t>(__builtin_ctz(bytes));
  const uint32_t period = lanes == kAllLanes && !access_.is_write ? period_of(addresses) : 32;
  if (period < 32) lanes = (1u << period) - 1;
  for (Mask rest = lanes; rest;) {
    uint32_t last = static_cast<uint32_t>(__builtin_ctz(rest));
    rest &= rest - 1;
    stretch_.address = addresses[last];
    stretch_.bytes = bytes;
    stretch_.lane = last;
    stretch_.broadcast = period < 32;
    bool alike = false;  // lanes next to each other at one address
    // Addresses that are not there the machine will complain about.
    if (!shadow_.contains(stretch_.address, bytes)) continue;
    while (last < 31 && rest >> (last + 1) & 1) {
      const uint64_t next = addresses[last + 1];
      if (next == addresses[last] + bytes && !alike && shadow_.contains(next, bytes))
        stretch_.bytes += bytes;
      else if (next == addresses[last] && !access_.is_write && stretch_.bytes == bytes)
        stretch_.broadcast = alike = true;
      else
        break;
      rest &= ~(1u << ++last);
    }
    if (!visit_stretch()) return false;
  }
  return true;
}

bool Visitor::visit_piece(uint64_t address, uint64_t bytes, uint32_t lane) {
  stretch_ = {.address = address, .bytes = bytes, .lane = lane};
  return !shadow_.contains(address, bytes) || visit_stretch();
}

inline bool Visitor::visit_stretch() {
  const uint64_t end = stretch_.address + stretch_.bytes;
  for (uint64_t at = stretch_.address; at < end;) {
    const uint32_t from = static_cast<uint32_t>((at - shadow_.base()) % Shadow::kLineBytes);
    const uint32_t bytes = static_cast<uint32_t>(std::min<uint64_t>(end - at, Shadow::kLineBytes - from));
    if (!visit_line(shadow_.line(at), at, from, bytes)) return false;
    at += bytes;
  }
  return true;
}

// [from, from + bytes) of a line; `at` is the address of the first of them. False: a conflict.
inline bool Visitor::visit_line(Line& line, uint64_t at, uint32_t from, uint32_t bytes) {
  bool split = line.is_split;
  if (split && !shadow_.is_current(line.split_by)) {
    line = {};
    split = false;
  }
  if (!split && (from | bytes) % Words::kBytes == 0) {
    const uint32_t here = stretch_.lane + static_cast<uint32_t>((at - stretch_.address) >> stretch_.shift);
    const uint32_t before = stretch_.shift < 31 ? from >> stretch_.shift : 0;
    Epoch later = access_.epoch.of((here - before) & 31, stretch_.shift);
    if (stretch_.broadcast) later = access_.epoch.of(0, Epoch::kOneLane).by_many();
    const Words words(from / Words::kBytes, bytes / Words::kBytes, stretch_.broadcast ? 0 : here & 31,
                      stretch_.broadcast ? 31 : stretch_.shift);
    if (access_.is_write ? write_line(line, later, words) : read_line(line, later, words)) return true;
  }
  if (!split) shadow_.split_line(line, actor_.cluster);
  for (uint32_t done = 0; done < bytes;) {
    const uint32_t offset = (from + done) % Shadow::kCellBytes,
                   here = std::min(bytes - done, Shadow::kCellBytes - offset);
    if (!visit(shadow_.cell(at + done), Shadow::kCellBytes, at + done, offset, here)) return false;
    done += here;
  }
  if (access_.is_write && bytes == Shadow::kLineBytes) {
    shadow_.unite_line(line);
    const uint32_t lane = stretch_.lane + static_cast<uint32_t>((at - stretch_.address) >> stretch_.shift);
    line.writes[0] = {access_.epoch.of(lane & 31, stretch_.shift), actor_.cluster,
                      Words(0, Words::kCount, lane & 31, stretch_.shift)};
  }
  return true;
}

// Without a look at single lanes.
inline bool Visitor::is_surely_after(Epoch later, Epoch earlier, uint32_t cluster) const {
  if (cluster != actor_.cluster) return false;
  if (actor_.clock->local.seen.covers_all(earlier.agent(), earlier.time())) return true;
  return earlier.same_lanes(later) && earlier.agent() < actor_.warps &&
         earlier.time() <= actor_.own_until(later.lane(), earlier.agent());
}

// The same for words of a line, where both have one.
inline bool Visitor::is_surely_after(Epoch later, const Words& words, const LineAccess& earlier) const {
  if (earlier.cluster != actor_.cluster) return false;
  const Epoch epoch = earlier.epoch;
  if (actor_.clock->local.seen.covers_all(epoch.agent(), epoch.time())) return true;
  return !epoch.many() && !later.many() && epoch.shift() == later.shift() && earlier.words.agrees_with(words) &&
         epoch.agent() < actor_.warps && epoch.time() <= actor_.own_until(later.lane(), epoch.agent());
}

inline bool Visitor::concerns(const LineAccess& earlier, const Words& words) const {
  return earlier.epoch && earlier.words.overlaps(words) && shadow_.is_current(earlier.cluster);
}

// In place of what was there, unless that is the same agent's at the same time, by lanes that agree.
inline void Visitor::remember(LineAccess& slot, Epoch later, const Words& words) {
  const bool joins = slot.cluster == actor_.cluster && slot.epoch.is_alike(later) && !slot.words.empty();
  if (joins)
    slot.words.join(words);
  else
    slot.words = words;
  slot.epoch = later;
  slot.cluster = actor_.cluster;
}

// Both do nothing and return false where it takes a closer look.
inline bool Visitor::write_line(Line& line, Epoch later, const Words& words) {
  LineAccess* slot = nullptr;
  for (LineAccess& write : line.writes) {
    if (concerns(write, words) && !is_surely_after(later, words, write)) return false;
    const bool gives_way = !write.epoch || !shadow_.is_current(write.cluster) || write.words.is_covered_by(words);
    const bool is_same = !gives_way && write.cluster == actor_.cluster && write.epoch.is_alike(later);
    if (is_same || (gives_way && !slot)) slot = &write;
  }
  if (!slot) return false;
  for (const LineAccess& read : line.reads)
    if (concerns(read, words) && !is_surely_after(later, words, read)) return false;
  for (LineAccess& read : line.reads) {
    read.words.remove(words);
    if (read.words.empty()) read.epoch = {};
  }
  for (LineAccess& write : line.writes) write.words.remove(words);
  remember(*slot, later, words);
  return true;
}

inline bool Visitor::read_line(Line& line, Epoch later, const Words& words) {
  for (const LineAccess& write : line.writes) {
    if (!concerns(write, words)) continue;
    if (!is_surely_after(later, words, write)) return false;
    if (access_.behind_proxy && write.epoch.agent() < actor_.warps &&
        !actor_.clock->local.fenced.covers_all(write.epoch.agent(), write.epoch.time()))
      return false;
  }
  LineAccess* slot = nullptr;
  for (LineAccess& read : line.reads) {
    if (!read.epoch || !shadow_.is_current(read.cluster)) {
      if (!slot) slot = &read;
    } else if (read.cluster == actor_.cluster && read.epoch.is_alike(later)) {
      if (!read.words.agrees_with(words)) return false;
      slot = &read;
      break;
    } else if (!slot && read.words.is_covered_by(words) && is_surely_after(later, words, read)) {
      slot = &read;
    }
  }
  if (!slot) {
    if (shadow_.exact()) return false;
    std::copy(line.reads + 1, line.reads + Line::kReaders, line.reads);
    slot = line.reads + Line::kReaders - 1;
  }
  remember(*slot, later, words);
  return true;
}

// [from, from + bytes) of a cell of `size`; `at` is the address of the first of them. False: a conflict.
inline bool Visitor::visit(Cell& cell, uint32_t size, uint64_t at, uint32_t from, uint32_t bytes) {
  if (cell.link) [[unlikely]] {
    if (shadow_.is_split(cell)) return visit_split(cell, size, at, from, bytes);
    if (!shadow_.more_readers(cell)) cell = {};  // of clusters from before
  }
  if (bytes == size) [[likely]]
    return access_.is_write ? write(cell, size, at) : read(cell, size, at);
  shadow_.split(cell, size, actor_.cluster);
  return visit_split(cell, size, at, from, bytes);
}

bool Visitor::visit_split(Cell& cell, uint32_t size, uint64_t at, uint32_t from, uint32_t bytes) {
  const uint32_t part = size / 4;
  for (uint32_t done = 0; done < bytes;) {
    const uint32_t offset = from + done, here = std::min(bytes - done, part - offset % part);
    if (!visit(shadow_.children(cell)[offset / part], part, at + done, offset % part, here)) return false;
    done += here;
  }
  if (bytes == size && access_.is_write) {
    shadow_.unite(cell);
    cell.write = epoch(at, size);
    cell.write_cluster = actor_.cluster;
  }
  return true;
}

inline bool Visitor::write(Cell& cell, uint32_t size, uint64_t at) {
  const Epoch later = epoch(at, size);
  if (!check_write(cell, later, at, size)) return false;
  for (int r = 0; r < Cell::kReaders; ++r)
    if (!check_read({cell.read[r], cell.read_cluster[r]}, later, at, size)) return false;
  if (cell.link) {
    if (const auto* more = shadow_.more_readers(cell))
      for (const Reader& reader : *more)
        if (!check_read(reader, later, at, size)) return false;
    shadow_.forget_readers(cell);
  }
  for (Epoch& read : cell.read) read = {};
  cell.write = later;
  cell.write_cluster = actor_.cluster;
  return true;
}

inline bool Visitor::read(Cell& cell, uint32_t size, uint64_t at) {
  const Epoch later = epoch(at, size);
  // These lanes have read it since they last released anything, and nobody has written since: a write forgets readers.
  for (int r = 0; r < Cell::kReaders; ++r)
    if (cell.read[r].is_together_with(later) && cell.read_cluster[r] == actor_.cluster) return true;
  if (!check_write(cell, later, at, size)) return false;
  for (int r = 0; r < Cell::kReaders; ++r)
    if (replace(cell.read[r], cell.read_cluster[r], later, size, read_answers_[r])) return true;
  add_reader(cell, later, size);
  return true;
}

inline bool Visitor::check_write(const Cell& cell, Epoch later, uint64_t at, uint32_t size) {
  if (!cell.write || !shadow_.is_current(cell.write_cluster)) return true;
  const Reader earlier{cell.write, cell.write_cluster};
  if (!is_after(later, earlier, size, write_answer_) && !(cell.write.strong() && later.strong()))
    return fail(earlier, true, later, at, size, Conflict::Kind::race);
  if (access_.behind_proxy && cell.write.agent() < actor_.warps && !is_fenced(earlier, size))
    return fail(earlier, true, later, at, size, Conflict::Kind::missing_proxy_fence);
  return true;
}

inline bool Visitor::check_read(const Reader& earlier, Epoch later, uint64_t at, uint32_t size) {
  if (!earlier.epoch || !shadow_.is_current(earlier.cluster)) return true;
  if (earlier.epoch.strong() && later.strong()) return true;
  return is_after(later, earlier, size, read_answers_[0]) ||
         fail(earlier, false, later, at, size, Conflict::Kind::race);
}

// Whether a remembered reader gives way to the new one: who will be after the one will be after the other. Of the same
// agent it always does. Another's may stay though it need not: only what is surely before is taken away.
inline bool Visitor::replace(Epoch& epoch, uint32_t& cluster, Epoch later, uint32_t size, Answer& answer) {
  if (epoch && shadow_.is_current(cluster)) {
    if (cluster != actor_.cluster || epoch.agent() != later.agent()) {
      if (!is_surely_after(later, epoch, cluster)) return false;
    } else if ((epoch.many() && epoch.time() == later.time()) || !is_after(later, {epoch, cluster}, size, answer)) {
      later = later.by_many();  // other lanes of the warp
    }
  }
  epoch = later;
  cluster = actor_.cluster;
  return true;
}

void Visitor::add_reader(Cell& cell, Epoch later, uint32_t size) {
  if (!shadow_.exact()) {
    constexpr int kLast = Cell::kReaders - 1;
    std::copy(cell.read + 1, cell.read + Cell::kReaders, cell.read);
    std::copy(cell.read_cluster + 1, cell.read_cluster + Cell::kReaders, cell.read_cluster);
    cell.read[kLast] = later;
    cell.read_cluster[kLast] = actor_.cluster;
    return;
  }
  if (auto* more = shadow_.more_readers(cell))
    for (Reader& reader : *more) {
      Answer answer;
      if (replace(reader.epoch, reader.cluster, later, size, answer)) return;
    }
  shadow_.add_reader(cell, {later, actor_.cluster});
}

inline bool Visitor::is_after(Epoch later, const Reader& earlier, uint32_t bytes, Answer& answer) const {
  if (is_surely_after(later, earlier.epoch, earlier.cluster)) return true;
  if (answer.earlier == earlier) return answer.is_after;
  const bool result = is_after_exactly(later, earlier, bytes);
  if (same_for_all_lanes_) {
    answer.earlier = earlier;
    answer.is_after = result;
  }
  return result;
}

// Byte by byte, lane by lane.
bool Visitor::is_after_exactly(Epoch later, const Reader& earlier, uint32_t bytes) const {
  const bool is_itself = earlier.cluster == actor_.cluster && earlier.epoch.agent() == later.agent() &&
                         earlier.epoch.time() == later.time() && later.agent() >= actor_.warps;
  if (is_itself) return true;
  Mask last_before = 0, last_now = 0;
  for (uint32_t byte = 0; byte < bytes; ++byte) {
    const Mask before = earlier.epoch.lanes_of(byte), now = later.many() ? actor_.lanes : later.lanes_of(byte);
    if (before == last_before && now == last_now) continue;
    for (Mask rest = now; rest; rest &= rest - 1)
      if (!lane_is_after(actor_, static_cast<uint32_t>(__builtin_ctz(rest)), earlier, before)) return false;
    last_before = before;
    last_now = now;
  }
  return true;
}

bool Visitor::is_fenced(const Reader& earlier, uint32_t bytes) const {
  if (earlier.cluster == actor_.cluster) return actor_.clock->local.fenced.covers(earlier.epoch, bytes);
  const View* view = actor_.clock->remote.find(earlier.cluster);
  return view && view->fenced.covers(earlier.epoch, bytes);
}

bool Visitor::fail(const Reader& earlier, bool is_write, Epoch later, uint64_t at, uint32_t size, Conflict::Kind kind) {
  conflict_ = {kind, earlier, is_write, at, size, later.lane()};
  // Name a byte and a lane that are not in order.
  for (uint32_t byte = 0; kind == Conflict::Kind::race && byte < size; ++byte) {
    const Reader one{earlier.epoch.of(earlier.epoch.lane_of(byte), Epoch::kOneLane), earlier.cluster};
    const Epoch now = later.of(later.lane_of(byte), Epoch::kOneLane);
    Answer answer;
    if (is_after(now, one, 1, answer)) continue;
    conflict_ = {kind, one, is_write, at + byte, size - byte, now.lane()};
    break;
  }
  return false;
}

// Of the cell, or part of a cell, that begins at this address.
inline Epoch Visitor::epoch(uint64_t at, uint32_t size) const {
  const uint32_t lane = stretch_.lane + static_cast<uint32_t>((at - stretch_.address) >> stretch_.shift);
  const bool one_lane = size <= 1u << std::min(stretch_.shift, 8u);
  const Epoch result = access_.epoch.of(lane & 31, one_lane ? Epoch::kOneLane : stretch_.shift);
  return stretch_.broadcast ? result.by_many() : result;
}

}  // namespace foretoken::sanitizer
