// atom and red. The lanes of an instruction take their turns in an order that the seed picks.
#include <bit>

#include "floating.h"
#include "integer.h"
#include "lanewise.h"
#include "load_store.h"
#include "memory_operand.h"
#include "narrow.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// new = apply(old, b, c), on the bits that lie in memory.
template <class T>
struct AtomicAdd {
  static T apply(T old, T b, T) { return wrapped_sum(old, b); }
};
struct AtomicAddFloat {
  static uint32_t apply(uint32_t old, uint32_t b, uint32_t) {
    return std::bit_cast<uint32_t>(canonical(std::bit_cast<float>(old) + std::bit_cast<float>(b)));
  }
};
// In global memory f32 sums flush subnormals.
struct AtomicAddFlushed {
  static uint32_t apply(uint32_t old, uint32_t b, uint32_t) {
    return std::bit_cast<uint32_t>(flush(canonical(flush(std::bit_cast<float>(old)) + flush(std::bit_cast<float>(b)))));
  }
};
struct AtomicAddDouble {
  static uint64_t apply(uint64_t old, uint64_t b, uint64_t) {
    return std::bit_cast<uint64_t>(std::bit_cast<double>(old) + std::bit_cast<double>(b));
  }
};
template <class Half, class Op>
struct AtomicHalf {
  static uint16_t apply(uint16_t old, uint16_t b, uint16_t) {
    return Half::from_float(Op::apply(Half::to_float(old), Half::to_float(b)));
  }
};
template <class Half, class Op>
struct AtomicHalves {
  static uint32_t apply(uint32_t old, uint32_t b, uint32_t) {
    using One = AtomicHalf<Half, Op>;
    return One::apply(static_cast<uint16_t>(old), static_cast<uint16_t>(b), 0) |
           uint32_t{One::apply(static_cast<uint16_t>(old >> 16), static_cast<uint16_t>(b >> 16), 0)} << 16;
  }
};
template <class T>
struct AtomicMin {
  static T apply(T old, T b, T) { return std::min(old, b); }
};
template <class T>
struct AtomicMax {
  static T apply(T old, T b, T) { return std::max(old, b); }
};
template <class T>
struct AtomicAnd {
  static T apply(T old, T b, T) { return old & b; }
};
template <class T>
struct AtomicOr {
  static T apply(T old, T b, T) { return old | b; }
};
template <class T>
struct AtomicXor {
  static T apply(T old, T b, T) { return old ^ b; }
};
template <class T>
struct AtomicExchange {
  static T apply(T, T b, T) { return b; }
};
template <class T>
struct AtomicCompareAndSwap {
  static T apply(T old, T compare, T value) { return old == compare ? value : old; }
};
struct AtomicIncrement {
  static uint32_t apply(uint32_t old, uint32_t b, uint32_t) { return old >= b ? 0 : old + 1; }
};
struct AtomicDecrement {
  static uint32_t apply(uint32_t old, uint32_t b, uint32_t) { return old == 0 || old > b ? b : old - 1; }
};

void observe(Context& c, const Instruction& i, const Place& place, const uint64_t* addresses, uint32_t bytes) {
  if (!c.launch->observer) [[likely]]
    return;
  MemoryEvent event;
  event.space = place.space;
  event.kind = AccessKind::atomic;
  event.order = order_of(i) == Order::weak ? Order::relaxed : order_of(i);
  event.scope = scope_of(i) == Scope::none ? Scope::device : scope_of(i);
  event.lanes = c.lanes;
  event.addresses = addresses;
  event.bytes = bytes;
  c.observe(event);
}

// parameter[0]: elements; [1]: whether there is a third operand; [2]: whether failing means waiting.
template <class T, class Op>
Outcome atomic(Context& c, const Instruction& i) {
  const int elements = static_cast<int>(i.parameter[0]);
  const bool has_result = i.results != 0, has_c = i.parameter[1] != 0;
  const int address_at = i.results, b_at = address_at + 1;
  uint64_t addresses[kLanes];
  c.addresses(i[address_at], addresses);
  Lane<T> olds[8][kLanes] = {};
  Mask undefined[8] = {};
  Mask changed = 0;
  const uint32_t bytes = static_cast<uint32_t>(sizeof(T)) * static_cast<uint32_t>(elements);
  const uint32_t rotation = c.launch->random.below(kLanes);
  for_each_place(c, space_of(i), addresses, [&](const Place& place, const uint64_t* at) {
    observe(c, i, place, at, bytes);
    if (!place.memory || place.space == Space::parameter)
      c.fault(FaultKind::address, first_lane(c.lanes), "an atomic operation on local memory or parameters");
    Memory& memory = *place.memory;
    if (place.space == Space::shared) count_shared(c.launch->counters, c.lanes, at, bytes);
    for (uint32_t turn = 0; turn < kLanes; ++turn) {
      const int lane = static_cast<int>((turn + rotation) % kLanes);
      if (!(c.lanes >> lane & 1)) continue;
      check_access(c, memory, lane, at[lane], bytes, bytes, "atomic operation");
      for (int k = 0; k < elements; ++k) {
        const uint64_t address = at[lane] + sizeof(T) * static_cast<uint32_t>(k);
        T old;
        std::memcpy(&old, memory.cell(address), sizeof(T));
        const Operand &b = i[b_at + k], &d = i[has_c ? b_at + 1 : b_at + k];
        const T now =
            Op::apply(old, static_cast<T>(c.source<Lane<T>>(b)[lane]), static_cast<T>(c.source<Lane<T>>(d)[lane]));
        const bool old_undefined = memory.undefined(address, sizeof(T)) != 0;
        const bool new_undefined = (c.undefined(b) >> lane & 1) || (has_c && (c.undefined(d) >> lane & 1));
        std::memcpy(memory.cell(address), &now, sizeof(T));
        const bool replaces = std::is_same_v<Op, AtomicExchange<T>>;
        const bool poisoned = new_undefined || (old_undefined && !replaces);
        memory.set_undefined(address, sizeof(T), poisoned ? (uint64_t{1} << sizeof(T)) - 1 : 0);
        olds[k][lane] = to_lane<T>(old);
        undefined[k] |= static_cast<Mask>(old_undefined) << lane;
        if (now != old) changed |= 1u << lane;
      }
    }
  });
  c.launch->counters.atomics += static_cast<uint32_t>(__builtin_popcount(c.lanes));
  if (has_result)
    for (int k = 0; k < elements; ++k) {
      if (i[k].kind == OperandKind::sink) continue;
      c.blend(c.target<Lane<T>>(i[k]), olds[k]);
      c.set_undefined(i[k], undefined[k]);
    }
  if (changed) ++c.launch->progress;
  // Nobody changed anything: a lock that is taken, a value that is not there yet.
  return changed || !has_result ? Outcome::next : Outcome::yield;
}

enum class Operation : int {
  add,
  min,
  max,
  logical_and,
  logical_or,
  logical_xor,
  exchange,
  compare,
  increment,
  decrement
};

template <class T>
void use_integer(Form& form, Operation operation) {
  using U = std::make_unsigned_t<T>;
  switch (operation) {
    case Operation::add: return form.use(atomic<U, AtomicAdd<U>>);
    case Operation::min: return form.use(atomic<T, AtomicMin<T>>);
    case Operation::max: return form.use(atomic<T, AtomicMax<T>>);
    default: form.unknown();
  }
}

template <class U>
void use_bits(Form& form, Operation operation) {
  switch (operation) {
    case Operation::logical_and: return form.use(atomic<U, AtomicAnd<U>>);
    case Operation::logical_or: return form.use(atomic<U, AtomicOr<U>>);
    case Operation::logical_xor: return form.use(atomic<U, AtomicXor<U>>);
    case Operation::exchange: return form.use(atomic<U, AtomicExchange<U>>);
    case Operation::compare: return form.use(atomic<U, AtomicCompareAndSwap<U>>);
    default: form.unknown();
  }
}

template <class Half>
void use_half(Form& form, Operation operation) {
  switch (operation) {
    case Operation::add: return form.use(atomic<uint16_t, AtomicHalf<Half, FloatAdd>>);
    case Operation::min: return form.use(atomic<uint16_t, AtomicHalf<Half, FloatExtremum<true, false>>>);
    case Operation::max: return form.use(atomic<uint16_t, AtomicHalf<Half, FloatExtremum<false, false>>>);
    default: form.unknown();
  }
}

template <class Half>
void use_halves(Form& form, Operation operation) {
  switch (operation) {
    case Operation::add: return form.use(atomic<uint32_t, AtomicHalves<Half, FloatAdd>>);
    case Operation::min: return form.use(atomic<uint32_t, AtomicHalves<Half, FloatExtremum<true, false>>>);
    case Operation::max: return form.use(atomic<uint32_t, AtomicHalves<Half, FloatExtremum<false, false>>>);
    default: form.unknown();
  }
}

void use_operation(Form& form, Type type, Operation operation, Space space) {
  const bool is_add = operation == Operation::add;
  switch (type) {
    case Type::u32:
      if (operation == Operation::increment) return form.use(atomic<uint32_t, AtomicIncrement>);
      if (operation == Operation::decrement) return form.use(atomic<uint32_t, AtomicDecrement>);
      return use_integer<uint32_t>(form, operation);
    case Type::s32: return use_integer<int32_t>(form, operation);
    case Type::u64: return use_integer<uint64_t>(form, operation);
    case Type::s64: return use_integer<int64_t>(form, operation);
    case Type::b16:
      if (operation != Operation::compare) form.unknown();
      return form.use(atomic<uint16_t, AtomicCompareAndSwap<uint16_t>>);
    case Type::b32: return use_bits<uint32_t>(form, operation);
    case Type::b64: return use_bits<uint64_t>(form, operation);
    case Type::f16: return use_half<F16>(form, operation);
    case Type::bf16: return use_half<Bf16>(form, operation);
    case Type::f16x2: return use_halves<F16>(form, operation);
    case Type::bf16x2: return use_halves<Bf16>(form, operation);
    case Type::f32:
      if (!is_add) form.unknown();
      return form.use(space == Space::shared ? atomic<uint32_t, AtomicAddFloat> : atomic<uint32_t, AtomicAddFlushed>);
    case Type::f64:
      if (!is_add) form.unknown();
      return form.use(atomic<uint64_t, AtomicAddDouble>);
    default: form.unknown();
  }
}

}  // namespace

void select_atomic(Form& form) {
  const bool has_result = form.statement.mnemonic == "atom";
  form.instruction.category = Class::atomic;
  const MemoryForm memory = take_memory_form(form);
  if (memory.space != Space::generic && memory.space != Space::global && memory.space != Space::shared) form.unknown();
  form.instruction.parameter[3] = packed(memory);
  const int operation = form.take_one({"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"});
  if (operation < 0) form.unknown();
  const int vector = form.take_one({"v2", "v4", "v8"});
  const uint32_t elements = vector < 0 ? 1 : 2u << vector;
  const Type type = form.take_type();
  const bool has_c = static_cast<Operation>(operation) == Operation::compare;
  form.constants(type);
  const int least = (has_result ? 3 : 2) + has_c;
  form.expect_operands(least, least + 1);  // the last may be a cache policy
  form.instruction.parameter[0] = elements;
  form.instruction.parameter[1] = has_c;
  form.instruction.results = static_cast<uint8_t>(has_result ? elements : 0);
  const uint32_t bits = ptx::type_bits(type) == 64 ? 64 : 32;
  for (uint32_t k = 0; k < elements; ++k) {
    if (has_result) expect_row(form, static_cast<int>(k), bits, true);
    expect_row(form, form.instruction.results + 1 + static_cast<int>(k), bits);
  }
  if (has_c) expect_row(form, form.instruction.results + 2, bits);
  if (form.instruction[form.instruction.results].kind != OperandKind::address) form.refuse("an address is expected");
  use_operation(form, type, static_cast<Operation>(operation), memory.space);
}

}  // namespace foretoken::machine
