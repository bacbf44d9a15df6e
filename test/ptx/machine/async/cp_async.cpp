// cp.async: copies of 4, 8 or 16 bytes per thread from global to shared memory, past the registers.
#include "cp_async.h"

#include <cstring>

#include "mbarrier_memory.h"
#include "operation.h"
#include "pieces.h"
#include "scattered_definedness.h"
#include "shared_address.h"
#include "warp_state.h"

namespace foretoken::machine {
namespace {

constexpr uint32_t kMostBytes = 16;

enum Parameter { kBytes, kFourth };
enum Fourth : uint32_t { kNothing, kSourceBytes, kIgnoreSource };  // what the fourth operand is

// One instruction's copies. The source is read at the instruction and must be the same at the end; bytes behind the
// source size are zeros.
class Copy final : public Operation {
 public:
  Copy(Context& c, const uint64_t* from, const uint64_t* to, const uint32_t* source_bytes, uint32_t bytes)
      : Operation(c), bytes_(bytes) {
    std::memset(data_, 0, sizeof data_);
    for (int lane : each(c.lanes)) {
      from_[lane] = from[lane];
      to_[lane] = to[lane];
      source_bytes_[lane] = static_cast<uint8_t>(source_bytes[lane]);
      if (source_bytes[lane] == 0) continue;  // its address may be anything
      check_access(c, c.global(), lane, from[lane], source_bytes[lane], bytes, "cp.async source");
      copy_piece(data_[lane], c.global().cell(from[lane]), source_bytes[lane]);
    }
    ScatteredDefinedness definedness;
    for (int lane : each(c.lanes)) {
      check_access(c, *c.block->shared, lane, to[lane], bytes, bytes, "cp.async destination");
      definedness.add(to[lane], bytes, (1u << bytes) - 1);
    }
    definedness.store(*c.block->shared);
  }

  void complete(Launch&) override {
    Memory& shared = *context.block->shared;
    const Memory& global = context.global();
    context.observe(MemoryEvent{.lanes = reading(), .addresses = from_, .bytes = bytes_, .agent = number});
    context.observe(MemoryEvent{.space = Space::shared,
                                .kind = AccessKind::write,
                                .lanes = context.lanes,
                                .addresses = to_,
                                .bytes = bytes_,
                                .agent = number});
    ScatteredDefinedness definedness;
    for (int lane : each(context.lanes)) {
      uint64_t undefined = 0;
      if (const uint32_t bytes = source_bytes_[lane]) {
        if (global.inaccessible(from_[lane], bytes))
          context.fault(FaultKind::address, lane, "the source of cp.async was freed before the copy was waited for");
        if (!same_piece(data_[lane], global.cell(from_[lane]), bytes))
          context.fault(FaultKind::race, lane, "the source of cp.async was changed before the copy was waited for");
        undefined = global.undefined(from_[lane], bytes);
      }
      copy_piece(shared.cell(to_[lane]), data_[lane], bytes_);
      definedness.add(to_[lane], bytes_, undefined);
    }
    definedness.store(shared);
    report_complete();
  }

 private:
  Mask reading() const {
    Mask lanes = 0;
    for (int lane : each(context.lanes)) lanes |= static_cast<Mask>(source_bytes_[lane] != 0) << lane;
    return lanes;
  }
  uint32_t bytes_;
  uint64_t from_[kLanes], to_[kLanes];
  uint8_t source_bytes_[kLanes];
  uint8_t data_[kLanes][kMostBytes];
};

// Operands: [to], [from], bytes{, source bytes or a predicate: ignore the source}.
Outcome copy(Context& c, const Instruction& i) {
  uint64_t to[kLanes], from[kLanes];
  uint32_t source_bytes[kLanes];
  const uint32_t bytes = i.parameter[kBytes];
  shared_addresses(c, i[0], SharedSpelling::block, to);
  for (int lane : each(c.lanes)) source_bytes[lane] = bytes;
  if (i.parameter[kFourth] == kIgnoreSource) {
    c.require_defined(i[3], "whether cp.async reads its source");
    for (int lane : each(c.predicate(i[3]) & c.lanes)) source_bytes[lane] = 0;
  } else if (i.parameter[kFourth] == kSourceBytes) {
    c.require_defined(i[3], "the source size of cp.async");
    for (int lane : each(c.lanes)) {
      source_bytes[lane] = c.source<uint32_t>(i[3])[lane];
      if (source_bytes[lane] > bytes) c.fault(FaultKind::usage, lane, "the source of cp.async is larger than its copy");
    }
  }
  const Mask all = c.lanes;
  for (int lane : each(all))
    if (source_bytes[lane] == 0) c.lanes &= ~(1u << lane);
  if (c.lanes) {
    c.addresses(i[1], from);
    count_global(c.launch->counters, c.lanes, from, bytes, false);
  }
  c.lanes = all;
  c.launch->counters.asynchronous_bytes += uint64_t{bytes} * static_cast<uint32_t>(__builtin_popcount(all));
  count_shared(c.launch->counters, all, to, bytes);
  warp_state(*c.warp).copies.add(all, submit(c, std::make_unique<Copy>(c, from, to, source_bytes, bytes)));
  return Outcome::next;
}

Outcome commit(Context& c, const Instruction&) {
  warp_state(*c.warp).copies.commit(c.lanes);
  return Outcome::next;
}

Outcome wait(Context& c, const Instruction& i) {
  warp_state(*c.warp).copies.wait(c.lanes, i.parameter[0], false,
                                  [&](Mask lanes, uint64_t operation) { join(c, lanes, operation); });
  return Outcome::next;
}

Outcome wait_all(Context& c, const Instruction& i) {
  commit(c, i);
  return wait(c, i);
}

// An arrival at an mbarrier once all earlier cp.async of the thread are complete.
class Arrival final : public Operation {
 public:
  Arrival(Context& c, int lane, uint64_t address) : Operation(c), lane_(lane), address_(address) {
    warp_state(*c.warp).copies.for_each(1u << lane, [&](uint64_t operation) { copies_.push_back(operation); });
  }
  void complete(Launch& launch) override {
    for (uint64_t copy : copies_) launch.force(copy);
    context.observe(
        SyncEvent{.kind = SyncKind::mbarrier_arrive, .lanes = 1u << lane_, .object = address_, .agent = number});
    update_mbarrier(context, lane_, *context.block, address_, [](MBarrier& barrier) { return barrier.arrive(1); });
    report_complete();
  }

 private:
  int lane_;
  uint64_t address_;
  std::vector<uint64_t> copies_;
};

Outcome arrive(Context& c, const Instruction& i) {
  const bool counts_itself = i.parameter[0];
  uint64_t addresses[kLanes];
  shared_addresses(c, i[0], static_cast<SharedSpelling>(i.parameter[1]), addresses);
  for (int lane : each(c.lanes)) {
    if (!counts_itself)
      update_mbarrier(c, lane, *c.block, addresses[lane], [](MBarrier& barrier) { return barrier.expect_one_more(); });
    as_lane(c, lane, [&] { submit(c, std::make_unique<Arrival>(c, lane, addresses[lane]), addresses[lane]); });
  }
  return Outcome::next;
}

uint32_t immediate(const Form& form, int operand) {
  if (form.operand(operand).kind != ptx::OperandKind::integer) form.refuse("a number is wanted");
  return static_cast<uint32_t>(form.operand(operand).bits);
}

void select_copy(Form& form) {
  const bool caches_in_l2_only = form.take_one({"ca", "cg"}) == 1;
  if (form.take_one({"shared", "shared::cta"}) < 0) form.refuse("the destination is .shared");
  form.need("global");
  const bool has_policy = form.take("L2::cache_hint");
  form.ignore({"L2::64B", "L2::128B", "L2::256B"});
  form.expect_operands(3, 5);
  form.constant(0, ptx::Type::b64);
  form.constant(1, ptx::Type::b64);
  const uint32_t bytes = immediate(form, 2);
  if (bytes != 16 && (caches_in_l2_only || (bytes != 4 && bytes != 8))) form.refuse("no such size");
  if (form.operand_count() - has_policy > 3) {
    const bool is_predicate = form.instruction[form.flat(3)].kind == OperandKind::predicate;
    if (!is_predicate) form.constant(3, ptx::Type::u32);
    form.instruction.parameter[kFourth] = is_predicate ? kIgnoreSource : kSourceBytes;
  }
  form.instruction.parameter[kBytes] = bytes;
  form.use(copy);
}

}  // namespace

void select_cp_async(Form& form) {
  form.instruction.category = Class::asynchronous;
  form.instruction.results = 0;
  if (form.take("commit_group")) return form.use(commit);
  if (form.take("wait_all")) return form.use(wait_all);
  if (form.take("wait_group")) {
    form.instruction.parameter[0] = immediate(form, 0);
    return form.use(wait);
  }
  if (form.take("mbarrier")) {
    form.need("arrive");
    form.instruction.parameter[0] = form.take("noinc");
    form.instruction.parameter[1] = static_cast<uint32_t>(take_shared(form));
    form.need("b64");
    form.constants(ptx::Type::b64);
    return form.use(arrive);
  }
  select_copy(form);
}

}  // namespace foretoken::machine
