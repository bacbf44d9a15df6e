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

}  // namespace

bool Visitor::visit(const uint64_t* addresses, Mask lanes, uint32_t bytes) {
  stretch_.shift = static_cast<uint32_t>(__builtin_ctz(bytes));
  for (Mask rest = lanes; rest;) {
    uint32_t last = static_cast<uint32_t>(__builtin_ctz(rest));
    rest &= rest - 1;
    stretch_.address = addresses[last];
    stretch_.bytes = bytes;
    stretch_.lane = last;
    stretch_.broadcast = false;
    // Addresses that are not there the machine will complain about.
    if (!shadow_.contains(stretch_.address, bytes)) continue;
    while (last < 31 && rest >> (last + 1) & 1) {
      const uint64_t next = addresses[last + 1];
      if (next == addresses[last] + bytes && !stretch_.broadcast && shadow_.contains(next, bytes))
        stretch_.bytes += bytes;
      else if (next == addresses[last] && !access_.is_write && stretch_.bytes == bytes)
        stretch_.broadcast = true;
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
inline bool Visitor::visit_line(Cell& line, uint64_t at, uint32_t from, uint32_t bytes) {
  bool split = line.link & Cell::kSplit;
  if (split && !shadow_.is_current(line.write_cluster)) {
    line = {};
    split = false;
  }
  if (!split && (from | bytes) % Shadow::kCellBytes == 0) {
    const uint32_t here = stretch_.lane + static_cast<uint32_t>((at - stretch_.address) >> stretch_.shift);
    const uint32_t before = stretch_.shift < 31 ? from >> stretch_.shift : 0;
    Epoch later = access_.epoch.of((here - before) & 31, stretch_.shift);
    if (stretch_.broadcast) later = later.by_many();
    const uint32_t pieces = ((1u << bytes / Shadow::kCellBytes) - 1) << from / Shadow::kCellBytes;
    if (access_.is_write ? bytes == Shadow::kLineBytes && write_line(line, later) : read_line(line, later, pieces))
      return true;
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
    line.write = epoch(at, Shadow::kLineBytes);
    line.write_cluster = actor_.cluster;
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

// Both do nothing and return false where it takes a closer look.
inline bool Visitor::write_line(Cell& line, Epoch later) {
  if (line.write && shadow_.is_current(line.write_cluster) && !is_surely_after(later, line.write, line.write_cluster))
    return false;
  for (int r = 0; r < Cell::kReaders; ++r)
    if (line.read[r] && shadow_.is_current(line.read_cluster[r]) &&
        !is_surely_after(later, line.read[r], line.read_cluster[r]))
      return false;
  line.write = later;
  line.write_cluster = actor_.cluster;
  line.read[0] = line.read[1] = {};
  line.link = 0;
  return true;
}

inline bool Visitor::read_line(Cell& line, Epoch later, uint32_t pieces) {
  if (line.write && shadow_.is_current(line.write_cluster)) {
    if (!is_surely_after(later, line.write, line.write_cluster)) return false;
    if (access_.behind_proxy && line.write.agent() < actor_.warps &&
        !actor_.clock->local.fenced.covers_all(line.write.agent(), line.write.time()))
      return false;
  }
  int slot = -1;
  for (int r = 0; r < Cell::kReaders && slot < 0; ++r) {
    const Epoch read = line.read[r];
    const uint32_t cluster = line.read_cluster[r], read_pieces = line.pieces(r);
    if (!read || !shadow_.is_current(cluster)) {
      slot = r;
    } else if (cluster == actor_.cluster && read.is_together_with(later)) {
      slot = r;
      pieces |= read_pieces;
    } else if ((read_pieces & ~pieces) == 0 && is_surely_after(later, read, cluster)) {
      slot = r;
    }
  }
  if (slot < 0) {
    if (shadow_.exact()) return false;
    line.read[0] = line.read[1];
    line.read_cluster[0] = line.read_cluster[1];
    line.set_pieces(0, line.pieces(1));
    slot = 1;
  }
  line.read[slot] = later;
  line.read_cluster[slot] = actor_.cluster;
  line.set_pieces(slot, pieces);
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
  cell.read[0] = cell.read[1] = {};
  cell.write = later;
  cell.write_cluster = actor_.cluster;
  return true;
}

inline bool Visitor::read(Cell& cell, uint32_t size, uint64_t at) {
  const Epoch later = epoch(at, size);
  if (cell.read[0] == later && cell.read_cluster[0] == actor_.cluster) return true;
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

// Whether a remembered reader gives way to the new one: who will be after the one will be after the other.
inline bool Visitor::replace(Epoch& epoch, uint32_t& cluster, Epoch later, uint32_t size, Answer& answer) {
  if (epoch && shadow_.is_current(cluster) && !is_after(later, {epoch, cluster}, size, answer)) {
    if (cluster != actor_.cluster || epoch.agent() != later.agent()) return false;
    later = later.by_many();  // other lanes of the warp
  }
  epoch = later;
  cluster = actor_.cluster;
  return true;
}

void Visitor::add_reader(Cell& cell, Epoch later, uint32_t size) {
  if (!shadow_.exact()) {
    cell.read[0] = cell.read[1];
    cell.read_cluster[0] = cell.read_cluster[1];
    cell.read[1] = later;
    cell.read_cluster[1] = actor_.cluster;
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
  if (answer.earlier == earlier) return answer.is_after;
  if (earlier.cluster == actor_.cluster) {
    if (actor_.clock->local.seen.covers(earlier.epoch, bytes)) {
      answer = {earlier, true};
      return true;
    }
    if (earlier.epoch.same_lanes(later) &&
        earlier.epoch.time() <= actor_.own_until(later.lane(), earlier.epoch.agent()))
      return true;
  }
  const bool result = is_after_exactly(later, earlier, bytes);
  if (same_for_all_lanes_) answer = {earlier, result};
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
