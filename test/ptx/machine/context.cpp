// What handlers do to rows, addresses and splits: the uncommon halves of Context's methods.
#include <cstring>
#include <sstream>

#include "access.h"
#include "code.h"
#include "machine.h"
#include "scheduler.h"

namespace foretoken::machine {

namespace {

template <class T>
Mask lanes_with_bits(const T* shadow) {
  Mask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result |= static_cast<Mask>(shadow[lane] != 0) << lane;
  return result;
}

Mask lanes_with_bits(const uint8_t* shadow, uint32_t bits) {
  if (bits == 32) return lanes_with_bits(reinterpret_cast<const uint32_t*>(shadow));
  if (bits == 64) return lanes_with_bits(reinterpret_cast<const uint64_t*>(shadow));
  return lanes_with_bits(reinterpret_cast<const unsigned __int128*>(shadow));
}

// The lanes' shadows become all ones in `which`, zero elsewhere.
template <class T>
void fill_lanes(uint8_t* shadow, Mask lanes, Mask which) {
  T* row = reinterpret_cast<T*>(shadow);
  for (int lane = 0; lane < kLanes; ++lane) {
    const T filled = which >> lane & 1 ? static_cast<T>(~T{0}) : T{0};
    row[lane] = lanes >> lane & 1 ? filled : row[lane];
  }
}

void fill_lanes(uint8_t* shadow, uint32_t bits, Mask lanes, Mask which) {
  if (bits == 32) return fill_lanes<uint32_t>(shadow, lanes, which);
  if (bits == 64) return fill_lanes<uint64_t>(shadow, lanes, which);
  fill_lanes<unsigned __int128>(shadow, lanes, which);
}

}  // namespace

Mask Context::undefined_exact(const Operand& o) const {
  if (state(o) == RowState::undefined) return kAllLanes;
  if (state(o) == RowState::lent) fault_lent();
  return undefined_lanes[o.index];
}

void Context::fault_lent() const {
  fault(FaultKind::usage, first_lane(lanes), "an accumulator of a wgmma is touched before wgmma.wait_group");
}

void Context::spell_out(const Operand& o) const {
  if (state(o) == RowState::lent) fault_lent();
  std::memset(shadows[o.file] + o.index * kRowBytes, state(o) == RowState::undefined ? 0xff : 0,
              o.bits / 32 * kRowBytes);
}

void Context::settle(const Operand& o) {
  const Mask bad = lanes_with_bits(shadows[kRegisterFile] + o.index * kRowBytes, o.bits);
  undefined_lanes[o.index] = bad;
  states[kRegisterFile][o.index] = static_cast<uint8_t>(bad & warp->live ? RowState::mixed : RowState::defined);
}

void Context::set_undefined(const Operand& o, Mask which) {
  if (o.kind == OperandKind::sink) return;
  which &= lanes;
  uint8_t& row_state = states[kRegisterFile][o.index];
  if (whole() && (which == 0 || which == lanes)) {
    row_state = static_cast<uint8_t>(which ? RowState::undefined : RowState::defined);
    return;
  }
  if (row_state == 0 && which == 0) return;
  const bool mixed = state(o) == RowState::mixed;
  Mask& bad = undefined_lanes[o.index];
  if (mixed && which == 0 && (bad & lanes) == 0) return;
  if (!mixed) {
    spell_out(o);
    bad = state(o) == RowState::undefined ? kAllLanes : 0;
  }
  fill_lanes(shadows[kRegisterFile] + o.index * kRowBytes, o.bits, lanes, which);
  bad = (bad & ~lanes) | which;
  row_state = static_cast<uint8_t>(bad & warp->live ? RowState::mixed : RowState::defined);
}

void Context::addresses(const Operand& o, uint64_t* result) {
  require_defined(o, "an address");
  const uint64_t offset = static_cast<uint64_t>(o.offset);
  if (o.bits == 64) {
    const uint64_t* base = source<uint64_t>(o);
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = base[lane] + offset;
  } else {
    const uint32_t* base = source<uint32_t>(o);
    const uint32_t narrow = static_cast<uint32_t>(offset);
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = base[lane] + narrow;
  }
}

Block& Context::shared_at(int lane, uint64_t shared_address) {
  const uint64_t rank = shared_address >> kSharedRankShift;
  if (rank == block->rank) return *block;
  if (rank >= cluster->blocks.size()) {
    std::ostringstream text;
    text << "shared address 0x" << std::hex << shared_address << " belongs to no block of the cluster";
    fault(FaultKind::address, lane, text.str());
  }
  Block& other = *cluster->blocks[rank];
  if (other.exited)
    fault(FaultKind::usage, lane, "access to the shared memory of a block of the cluster that has exited");
  return other;
}

void Context::sleep(const WaitKey& key, const char* waits_for) {
  split->state = SplitState::asleep;
  split->wait = key;
  split->waits_for = waits_for;
}

Split& Context::divide(Mask away) {
  auto other = std::make_unique<Split>(*split);
  other->run_queue_position = -1;
  other->lanes = away;
  other->pc = pc;
  other->state = SplitState::parked;
  split->lanes &= ~away;
  lanes &= ~away;
  Split& result = *other;
  warp->splits.push_back(std::move(other));
  ++launch->parked_splits;
  launch->make_ready(result);
  return result;
}

namespace {

// Two splits that came of one go on as one: what both still have open stays open.
void join(Launch& launch, Split& into, Split& from) {
  size_t common = 0;
  while (common < into.meetings.size() && common < from.meetings.size() &&
         into.meetings[common].divergence == from.meetings[common].divergence)
    ++common;
  into.meetings.resize(common);
  into.lanes |= from.lanes;
  remove_split(launch, from);
}

}  // namespace

bool Context::assemble(const char* waits_for) {
  if (lanes == warp->live) return true;
  Mask gathered = split->lanes;
  for (const auto& other : warp->splits)
    if (other.get() != split && other->state == SplitState::asleep && other->pc == pc &&
        other->wait == WaitKey{warp, pc} && other->return_pcs == split->return_pcs)
      gathered |= other->lanes;
  if (gathered != warp->live || lanes != split->lanes) {
    sleep({warp, pc}, waits_for);
    return false;
  }
  for (size_t k = 0; k < warp->splits.size();) {
    Split& other = *warp->splits[k];
    if (&other != split && other.pc == pc && other.state == SplitState::asleep)
      join(*launch, *split, other);
    else
      ++k;
  }
  lanes = split->lanes;
  ++launch->progress;
  return true;
}

void Context::fault(FaultKind kind, int lane, const std::string& message) const {
  std::ostringstream text;
  const Code& code = *launch->code;
  const Dimensions& size = launch->shape.block;
  const uint32_t thread = warp->thread(lane);
  text << message << "; in kernel " << code.kernel_name() << ", at " << code.place(pc) << ", block (" << block->index.x
       << "," << block->index.y << "," << block->index.z << "), thread (" << thread % size.x << ","
       << thread / size.x % size.y << "," << thread / (size.x * size.y) << "): `" << code.text(pc) << "`";
  throw Fault(kind, text.str());
}

void Context::fault_undefined(Mask bad, const char* what) const {
  fault(FaultKind::undefined, first_lane(bad), std::string("an undefined value decides ") + what);
}

namespace {

[[noreturn, gnu::noinline]] void refuse_access(const Context& c, const Memory& memory, int lane, uint64_t address,
                                               uint32_t bytes, bool misaligned, const char* what) {
  std::ostringstream text;
  text << (misaligned ? "misaligned " : "") << what << " of " << bytes << " bytes at 0x" << std::hex << address
       << std::dec;
  if (!misaligned) text << " out of bounds: " << memory.describe(address);
  c.fault(FaultKind::address, lane, text.str());
}

}  // namespace

void check_access(const Context& c, const Memory& memory, int lane, uint64_t address, uint32_t bytes,
                  uint32_t alignment, const char* what) {
  const bool misaligned = address % alignment != 0;
  if (!misaligned && memory.contains(address) && memory.accessible(address, bytes)) [[likely]]
    return;
  refuse_access(c, memory, lane, address, bytes, misaligned, what);
}

}  // namespace foretoken::machine
