#include "warp_sync.h"

#include <algorithm>

#include "lanewise.h"
#include "rendezvous.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Adds the lanes' values of a 32- or 64-bit row.
template <class T>
void bring_row(Context& c, const Operand& o, Brought& brought) {
  const T* row = c.source<T>(o);
  for (int lane = 0; lane < kLanes; ++lane)
    brought.values[lane] = c.lanes >> lane & 1 ? row[lane] : brought.values[lane];
  const Mask undefined = c.undefined(o) & c.lanes;
  if (!undefined) return;
  if (!brought.any_undefined) std::fill_n(brought.undefined, kLanes, 0);
  brought.any_undefined |= undefined;
  const T* shadow = c.shadow<T>(o);
  for (int lane : each(undefined)) brought.undefined[lane] = shadow[lane];
}

// --- shfl.sync.mode.b32 d|p, a, b, c, membermask

enum class Shuffle : uint32_t { up, down, butterfly, index };

// Where each lane's value comes from; those for which there is no such lane keep their own.
struct Sources {
  alignas(64) uint32_t lane[kLanes];
  Mask inside = 0;
};

template <Shuffle Mode>
void find_sources(const uint32_t* by, const uint32_t* clamp, Sources& from) {
  alignas(64) uint32_t valid[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t amount = by[lane] & 31, c_value = clamp[lane] & 31, segment = clamp[lane] >> 8 & 31;
    const uint32_t most = (lane & segment) | (c_value & ~segment);
    const uint32_t other = Mode == Shuffle::up          ? lane - amount
                           : Mode == Shuffle::down      ? lane + amount
                           : Mode == Shuffle::butterfly ? lane ^ amount
                                                        : (lane & segment) | (amount & ~segment);
    valid[lane] = Mode == Shuffle::up ? static_cast<int32_t>(other) >= static_cast<int32_t>(most) : other <= most;
    from.lane[lane] = (valid[lane] ? other : lane) & 31;
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) from.inside |= static_cast<Mask>(valid[lane]) << lane;
}

void find_sources(Shuffle mode, const uint32_t* by, const uint32_t* clamp, Sources& from) {
  switch (mode) {
    case Shuffle::up: return find_sources<Shuffle::up>(by, clamp, from);
    case Shuffle::down: return find_sources<Shuffle::down>(by, clamp, from);
    case Shuffle::butterfly: return find_sources<Shuffle::butterfly>(by, clamp, from);
    case Shuffle::index: return find_sources<Shuffle::index>(by, clamp, from);
  }
}

// What of the result is undefined. A lane that takes no part has nothing to give.
void mark_undefined(Context& c, const Operand& to, const Sources& from, const Brought& brought, Mask there) {
  const Mask unsure = brought.any_undefined | ~there;
  Mask bad = 0;
  alignas(64) uint32_t shadow[kLanes] = {};
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t source = from.lane[lane];
    if (!(unsure >> source & 1)) continue;
    shadow[lane] = there >> source & 1 ? static_cast<uint32_t>(brought.undefined[source]) : ~0u;
    bad |= 1u << lane;
  }
  if (bad & c.lanes)
    c.set_shadow(to, shadow);
  else
    c.set_defined(to);
}

Outcome shuffle(Context& c, const Instruction& i) {
  const bool has_predicate = i.results == 2;
  const Operand &a = i[i.results], &b = i[i.results + 1], &control = i[i.results + 2];
  c.require_defined(b, "a shuffle's lane");
  c.require_defined(control, "a shuffle's segments");
  const auto mode = static_cast<Shuffle>(i.parameter[0]);
  const auto finish = [&](Context& ctx, const Brought& brought, Mask there) {
    Sources from;
    find_sources(mode, ctx.source<uint32_t>(b), ctx.source<uint32_t>(control), from);
    if (i[0].kind != OperandKind::sink) {
      alignas(64) uint32_t result[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) result[lane] = static_cast<uint32_t>(brought.values[from.lane[lane]]);
      ctx.blend(ctx.target<uint32_t>(i[0]), result);
      if ((brought.any_undefined | ~there) != 0)
        mark_undefined(ctx, i[0], from, brought, there);
      else
        ctx.set_defined(i[0]);
    }
    if (has_predicate) ctx.write_predicate(i[1], from.inside);
  };
  return synchronise(
      c, WarpSync::shuffle, i[i.operand_count - 1],
      [&](Context& ctx, Brought& brought) { bring_row<uint32_t>(ctx, a, brought); }, finish);
}

void select_shfl(Form& form) {
  form.instruction.category = Class::shuffle;
  form.need("sync");
  const int mode = form.take_one({"up", "down", "bfly", "idx"});
  if (mode < 0) form.unknown();
  form.instruction.parameter[0] = static_cast<uint32_t>(mode);
  form.need("b32");
  form.expect_operands(5, 5);
  form.constants(Type::b32);
  const int first = form.flat(1);
  form.instruction.results = static_cast<uint8_t>(first);
  expect_row(form, 0, 32, true);
  for (int k = first; k < first + 4; ++k) expect_row(form, k, 32);
  form.use(shuffle);
}

// --- vote.sync

enum class Vote : uint32_t { all, any, uniform, ballot };

Outcome vote(Context& c, const Instruction& i) {
  const Operand& predicate = i[1];
  const auto mode = static_cast<Vote>(i.parameter[0]);
  const auto bring = [&](Context& ctx, Brought& brought) {
    const Mask value = ctx.predicate(predicate), undefined = ctx.predicate_undefined(predicate) & ctx.lanes;
    for (int lane : each(ctx.lanes)) brought.values[lane] = value >> lane & 1;
    brought.any_undefined = (brought.any_undefined & ~ctx.lanes) | undefined;
  };
  const auto finish = [&](Context& ctx, const Brought& brought, Mask there) {
    Mask ballot = 0;
    for (int lane : each(there)) ballot |= static_cast<Mask>(brought.values[lane] & 1) << lane;
    const Mask unknown = brought.any_undefined & there ? kAllLanes : 0;
    if (mode == Vote::ballot) {
      uint32_t result[kLanes];
      std::fill_n(result, kLanes, ballot);
      ctx.write(i[0], result);
      if (unknown) ctx.set_undefined(i[0], ctx.lanes);
      return;
    }
    const bool result = mode == Vote::all   ? ballot == there
                        : mode == Vote::any ? ballot != 0
                                            : ballot == there || ballot == 0;
    ctx.write_predicate(i[0], result ? kAllLanes : 0, unknown);
  };
  return synchronise(c, WarpSync::vote, i[2], bring, finish);
}

void select_vote(Form& form) {
  form.instruction.category = Class::shuffle;
  form.need("sync");
  const int mode = form.take_one({"all", "any", "uni", "ballot"});
  if (mode < 0) form.unknown();
  form.instruction.parameter[0] = static_cast<uint32_t>(mode);
  form.need(mode == 3 ? "b32" : "pred");
  form.expect_operands(3, 3);
  form.constant(1, Type::pred);
  form.constant(2, Type::b32);
  if (form.instruction[1].kind != OperandKind::predicate) form.refuse("a predicate is expected");
  form.use(vote);
}

// --- match.any.sync d, a, mask; match.all.sync d|p, a, mask

template <class T, bool All>
Outcome match(Context& c, const Instruction& i) {
  const Operand& a = i[i.results];
  const auto finish = [&](Context& ctx, const Brought& brought, Mask there) {
    uint32_t result[kLanes] = {};
    Mask all_equal = kAllLanes;
    for (int lane : each(ctx.lanes))
      for (int other : each(there))
        result[lane] |= static_cast<uint32_t>(brought.values[other] == brought.values[lane]) << other;
    if (All) {
      all_equal = result[first_lane(ctx.lanes)] == there ? kAllLanes : 0;
      for (int lane : each(ctx.lanes)) result[lane] = all_equal & there;
    }
    const Mask unknown = brought.any_undefined & there ? kAllLanes : 0;
    ctx.write(i[0], result);
    if (unknown && i[0].kind != OperandKind::sink) ctx.set_undefined(i[0], ctx.lanes);
    if (i.results == 2) ctx.write_predicate(i[1], all_equal, unknown);
  };
  return synchronise(
      c, WarpSync::match, i[i.results + 1], [&](Context& ctx, Brought& brought) { bring_row<T>(ctx, a, brought); },
      finish);
}

void select_match(Form& form) {
  form.instruction.category = Class::shuffle;
  const bool all = form.take("all");
  if (!all) form.need("any");
  form.need("sync");
  const Type type = form.take_type();
  if (type != Type::b32 && type != Type::b64) form.unknown();
  form.expect_operands(3, 3);
  form.constant(1, type);
  form.constant(2, Type::b32);
  form.instruction.results = static_cast<uint8_t>(form.flat(1));
  expect_row(form, form.flat(1), type == Type::b64 ? 64 : 32);
  expect_row(form, form.flat(2), 32);
  if (type == Type::b64) return form.use(all ? match<uint64_t, true> : match<uint64_t, false>);
  form.use(all ? match<uint32_t, true> : match<uint32_t, false>);
}

// --- redux.sync

template <class Op, class T>
Outcome redux(Context& c, const Instruction& i) {
  const auto finish = [&](Context& ctx, const Brought& brought, Mask there) {
    T sum = static_cast<T>(brought.values[first_lane(there)]);
    for (int lane : each(there & (there - 1))) sum = Op::apply(sum, static_cast<T>(brought.values[lane]));
    uint32_t result[kLanes];
    std::fill_n(result, kLanes, static_cast<uint32_t>(sum));
    ctx.write(i[0], result);
    if (brought.any_undefined & there) ctx.set_undefined(i[0], ctx.lanes);
  };
  return synchronise(
      c, WarpSync::redux, i[2], [&](Context& ctx, Brought& brought) { bring_row<uint32_t>(ctx, i[1], brought); },
      finish);
}

struct ReduxAdd {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
  }
};
struct ReduxMin {
  template <class T>
  static T apply(T a, T b) {
    return std::min(a, b);
  }
};
struct ReduxMax {
  template <class T>
  static T apply(T a, T b) {
    return std::max(a, b);
  }
};
struct ReduxAnd {
  static uint32_t apply(uint32_t a, uint32_t b) { return a & b; }
};
struct ReduxOr {
  static uint32_t apply(uint32_t a, uint32_t b) { return a | b; }
};
struct ReduxXor {
  static uint32_t apply(uint32_t a, uint32_t b) { return a ^ b; }
};

void select_redux(Form& form) {
  form.instruction.category = Class::shuffle;
  form.need("sync");
  const int operation = form.take_one({"add", "min", "max", "and", "or", "xor"});
  const Type type = form.take_type();
  form.expect_operands(3, 3);
  form.constants(Type::b32);
  expect_row(form, 0, 32, true);
  expect_row(form, 1, 32);
  expect_row(form, 2, 32);
  const bool is_signed = type == Type::s32;
  if (operation < 0 || (operation < 3 ? !is_signed && type != Type::u32 : type != Type::b32)) form.unknown();
  switch (operation) {
    case 0: return form.use(redux<ReduxAdd, uint32_t>);
    case 1: return form.use(is_signed ? redux<ReduxMin, int32_t> : redux<ReduxMin, uint32_t>);
    case 2: return form.use(is_signed ? redux<ReduxMax, int32_t> : redux<ReduxMax, uint32_t>);
    case 3: return form.use(redux<ReduxAnd, uint32_t>);
    case 4: return form.use(redux<ReduxOr, uint32_t>);
    default: return form.use(redux<ReduxXor, uint32_t>);
  }
}

// --- elect.sync d|p, membermask: the lowest lane that is there, the same each time

Outcome elect(Context& c, const Instruction& i) {
  const auto finish = [&](Context& ctx, const Brought&, Mask there) {
    const int leader = first_lane(there);
    uint32_t result[kLanes];
    std::fill_n(result, kLanes, static_cast<uint32_t>(leader));
    ctx.write(i[0], result);
    ctx.write_predicate(i[1], 1u << leader);
  };
  return synchronise(c, WarpSync::elect, i[2], [](Context&, Brought&) {}, finish);
}

void select_elect(Form& form) {
  form.instruction.category = Class::shuffle;
  form.need("sync");
  form.expect_operands(2, 2);
  form.constants(Type::b32);
  form.instruction.results = 2;
  if (form.instruction.operand_count != 3) form.unknown();
  expect_row(form, 0, 32, true);
  expect_row(form, 2, 32);
  form.use(elect);
}

// --- bar.warp.sync, activemask

Outcome warp_barrier(Context& c, const Instruction& i) {
  return synchronise(c, WarpSync::barrier, i[0], [](Context&, Brought&) {}, [](Context&, const Brought&, Mask) {});
}

Outcome activemask(Context& c, const Instruction& i) {
  uint32_t result[kLanes];
  std::fill_n(result, kLanes, c.lanes);
  c.write(i[0], result);
  return Outcome::next;
}

void select_activemask(Form& form) {
  form.instruction.category = Class::shuffle;
  form.need("b32");
  form.expect_operands(1, 1);
  expect_row(form, 0, 32);
  form.use(activemask);
}

constexpr Entry kEntries[] = {{"shfl", select_shfl},   {"vote", select_vote},   {"match", select_match},
                              {"redux", select_redux}, {"elect", select_elect}, {"activemask", select_activemask}};

}  // namespace

void select_warp_barrier(Form& form) {
  form.instruction.category = Class::barrier;
  form.instruction.results = 0;
  form.need("sync");
  form.expect_operands(1, 1);
  form.constants(Type::b32);
  expect_row(form, 0, 32);
  form.use(warp_barrier);
}

std::span<const Entry> warp_table() { return kEntries; }

}  // namespace foretoken::machine
