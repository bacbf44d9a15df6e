// ld, ldu, st: one to eight elements for each lane.
#include "load_store.h"

#include <algorithm>

#include "lanewise.h"
#include "memory_operand.h"

namespace foretoken::machine {

namespace {

using ptx::Type;

// Byte per byte of E what a bit per byte says.
template <class E>
E spread(uint64_t bits) {
  E result = 0;
  for (unsigned byte = 0; byte < sizeof(E); ++byte)
    if (bits >> byte & 1) result |= static_cast<E>(static_cast<E>(0xff) << (8 * byte));
  return result;
}

// A bit per byte of E: whether any of its bits is set.
template <class E>
uint64_t gather_bytes(E shadow) {
  uint64_t result = 0;
  for (unsigned byte = 0; byte < sizeof(E); ++byte)
    if (shadow >> (8 * byte) & 0xff) result |= uint64_t{1} << byte;
  return result;
}

void count(Context& c, const Place& place, const uint64_t* addresses, uint32_t bytes, bool store) {
  if (place.space == Space::shared)
    count_shared(c.launch->counters, c.lanes, addresses, bytes);
  else if (place.space == Space::global)
    count_global(c.launch->counters, c.lanes, addresses, bytes, store);
}

void observe(Context& c, const Instruction& i, const Place& place, const uint64_t* addresses, uint32_t bytes,
             AccessKind kind, const void* values = nullptr) {
  if (!c.launch->observer) [[likely]]
    return;
  MemoryEvent event;
  event.space = place.space;
  event.kind = kind;
  event.order = order_of(i);
  event.scope = scope_of(i);
  event.lanes = c.lanes;
  event.addresses = addresses;
  event.bytes = bytes;
  event.values = values;
  c.observe(event);
}

// Whether all lanes take part and their bytes lie behind each other: one range of memory.
bool is_row(Mask lanes, const uint64_t* addresses, uint32_t bytes) {
  if (lanes != kAllLanes) return false;
  uint64_t difference = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) difference |= addresses[lane] ^ (addresses[0] + lane * bytes);
  return difference == 0;
}

// A row that is aligned and inside of the memory, every byte accessible.
bool is_accessible_row(const Memory& memory, Mask lanes, const uint64_t* addresses, uint32_t bytes) {
  if (!is_row(lanes, addresses, bytes) || addresses[0] % bytes) return false;
  const uint64_t end = addresses[0] + kLanes * bytes;
  return memory.contains(addresses[0]) && memory.contains(end - 1) &&
         memory.first_inaccessible(addresses[0], kLanes * bytes) == end;
}

// Whether every lane's access is aligned, inside, accessible and defined. Anything less is looked at lane by lane.
bool all_clean(const Memory& memory, Mask lanes, const uint64_t* addresses, uint32_t bytes) {
  constexpr uint64_t kNear = 64 * Memory::kPageBytes;
  const uint64_t someone = addresses[first_lane(lanes)];
  uint64_t least = someone, most = someone, bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint64_t address = lanes >> lane & 1 ? addresses[lane] : someone;
    least = std::min(least, address);
    most = std::max(most, address);
    bits |= address;
  }
  if ((bits & (bytes - 1)) != 0 || !memory.contains(least) || !memory.contains(most)) return false;
  if (most - least < kNear) return memory.clean_pages(least, most);
  bool clean = true;
  for (int lane : each(lanes)) clean = clean && memory.clean(addresses[lane], bytes);
  return clean;
}

// --- loads

template <class E, int V>
struct Loaded {
  alignas(64) E values[V][kLanes];
  uint64_t undefined[kLanes];  // bit per byte
  Mask any_undefined = 0;
};

template <class E, int V>
void load_lanes(Context& c, const Place& place, const uint64_t* addresses, Loaded<E, V>& out) {
  constexpr uint32_t kBytes = sizeof(E) * V;
  E element[V];
  if (place.memory) {
    const Memory& memory = *place.memory;
    if (all_clean(memory, c.lanes, addresses, kBytes)) [[likely]] {
      for (int lane : each(c.lanes)) {
        std::memcpy(element, memory.cell(addresses[lane]), kBytes);
        for (int k = 0; k < V; ++k) out.values[k][lane] = element[k];
      }
      return;
    }
    for (int lane : each(c.lanes)) {
      out.undefined[lane] = read_bytes(c, memory, lane, addresses[lane], kBytes, element, "load");
      if (out.undefined[lane]) out.any_undefined |= 1u << lane;
      for (int k = 0; k < V; ++k) out.values[k][lane] = element[k];
    }
    return;
  }
  const LaneMemory& memory = place.lane_memory;
  for (int lane : each(c.lanes)) {
    check_lane_access(c, memory, lane, addresses[lane], kBytes, "load");
    const uint64_t at = static_cast<uint64_t>(lane) * memory.bytes + addresses[lane];
    std::memcpy(element, memory.values + at, kBytes);
    uint64_t bits = 0;
    for (uint32_t byte = 0; byte < kBytes; ++byte) bits |= uint64_t{memory.undefined[at + byte] != 0} << byte;
    out.undefined[lane] = bits;
    if (bits) out.any_undefined |= 1u << lane;
    for (int k = 0; k < V; ++k) out.values[k][lane] = element[k];
  }
}

// Into a row that may be wider than the element: extended with its sign if E has one.
template <class Row, class E, int V>
void deliver(Context& c, const Operand& to, const Loaded<E, V>& loaded, int k) {
  alignas(64) Row row[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = static_cast<Row>(loaded.values[k][lane]);
  c.blend(c.target<Row>(to), row);
  if (!loaded.any_undefined) return c.set_defined(to);
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint64_t bits = loaded.any_undefined >> lane & 1 ? loaded.undefined[lane] >> (sizeof(E) * k) : 0;
    row[lane] = static_cast<Row>(spread<E>(bits));
  }
  c.set_shadow(to, row);
}

template <class E, int V>
Outcome load(Context& c, const Instruction& i) {
  constexpr uint32_t kBytes = sizeof(E) * V;
  uint64_t addresses[kLanes];
  c.addresses(i[V], addresses);
  Loaded<E, V> loaded;
  for_each_place(c, space_of(i), addresses, [&](const Place& place, const uint64_t* at) {
    observe(c, i, place, at, kBytes, AccessKind::read);
    load_lanes(c, place, at, loaded);
    count(c, place, at, kBytes, false);
  });
  for (int k = 0; k < V; ++k) {
    if (i[k].kind == OperandKind::sink) continue;
    if (sizeof(E) == 16)
      deliver<unsigned __int128>(c, i[k], loaded, k);
    else if (i[k].bits == 64)
      deliver<uint64_t>(c, i[k], loaded, k);
    else
      deliver<uint32_t>(c, i[k], loaded, k);
  }
  return order_of(i) == Order::weak ? Outcome::next : Outcome::yield;
}

// --- stores

// The lanes' bytes to be stored, element after element.
template <class E, int V>
struct Stored {
  E values[kLanes][V];
  uint64_t undefined[kLanes];  // bit per byte; only if any_undefined
  Mask any_undefined = 0;
};

template <class Row, class E, int V>
void collect(Context& c, const Operand& from, Stored<E, V>& stored, int k) {
  const Row* row = c.source<Row>(from);
  for (int lane = 0; lane < kLanes; ++lane) stored.values[lane][k] = static_cast<E>(row[lane]);
  const Mask undefined = c.undefined(from) & c.lanes;
  if (!undefined) [[likely]]
    return;
  if (!stored.any_undefined) std::memset(stored.undefined, 0, sizeof stored.undefined);
  stored.any_undefined |= undefined;
  const Row* shadow = c.shadow<Row>(from);
  using U = std::conditional_t<sizeof(E) == 16, unsigned __int128,
                               std::make_unsigned_t<std::conditional_t<sizeof(E) == 16, int, E>>>;
  for (int lane : each(undefined))
    stored.undefined[lane] |= gather_bytes(static_cast<U>(shadow[lane])) << (sizeof(E) * k);
}

template <class E, int V>
void store_lanes(Context& c, const Place& place, const uint64_t* addresses, const Stored<E, V>& stored) {
  constexpr uint32_t kBytes = sizeof(E) * V;
  if (place.memory) {
    Memory& memory = *place.memory;
    if (place.space == Space::parameter)
      c.fault(FaultKind::address, first_lane(c.lanes), "store to a kernel's parameters");
    if (!stored.any_undefined && all_clean(memory, c.lanes, addresses, kBytes)) [[likely]] {
      for (int lane : each(c.lanes)) std::memcpy(memory.cell(addresses[lane]), stored.values[lane], kBytes);
      return;
    }
    if (!stored.any_undefined && is_accessible_row(memory, c.lanes, addresses, kBytes)) {
      std::memcpy(memory.cell(addresses[0]), stored.values, sizeof stored.values);
      memory.mark_defined(addresses[0], sizeof stored.values);
      return;
    }
    for (int lane : each(c.lanes))
      write_bytes(c, memory, lane, addresses[lane], kBytes, stored.values[lane],
                  stored.any_undefined ? stored.undefined[lane] : 0, "store");
    return;
  }
  const LaneMemory& memory = place.lane_memory;
  for (int lane : each(c.lanes)) {
    check_lane_access(c, memory, lane, addresses[lane], kBytes, "store");
    const uint64_t at = static_cast<uint64_t>(lane) * memory.bytes + addresses[lane];
    std::memcpy(memory.values + at, stored.values[lane], kBytes);
    const uint64_t bits = stored.any_undefined ? stored.undefined[lane] : 0;
    for (uint32_t byte = 0; byte < kBytes; ++byte) memory.undefined[at + byte] = bits >> byte & 1 ? 0xff : 0;
  }
}

template <class E, int V>
Outcome store(Context& c, const Instruction& i) {
  constexpr uint32_t kBytes = sizeof(E) * V;
  uint64_t addresses[kLanes];
  c.addresses(i[0], addresses);
  Stored<E, V> stored;
  for (int k = 0; k < V; ++k) {
    if (sizeof(E) == 16)
      collect<unsigned __int128>(c, i[1 + k], stored, k);
    else if (i[1 + k].bits == 64)
      collect<uint64_t>(c, i[1 + k], stored, k);
    else
      collect<uint32_t>(c, i[1 + k], stored, k);
  }
  for_each_place(c, space_of(i), addresses, [&](const Place& place, const uint64_t* at) {
    observe(c, i, place, at, kBytes, AccessKind::write, stored.values);
    store_lanes(c, place, at, stored);
    count(c, place, at, kBytes, true);
  });
  ++c.launch->progress;
  return Outcome::next;
}

// --- selection

Class category(Space space, bool is_store) {
  switch (space) {
    case Space::shared: return is_store ? Class::shared_store : Class::shared_load;
    case Space::local: return Class::local_memory;
    case Space::constant: return Class::constant_load;
    case Space::parameter: return is_store ? Class::local_memory : Class::constant_load;
    default: return is_store ? Class::global_store : Class::global_load;
  }
}

template <class E>
void use_element(Form& form, int count, bool is_store) {
  switch (count) {
    case 1: return form.use(is_store ? store<E, 1> : load<E, 1>);
    case 2: return form.use(is_store ? store<E, 2> : load<E, 2>);
    case 4: return form.use(is_store ? store<E, 4> : load<E, 4>);
    case 8:
      if constexpr (sizeof(E) == 4) return form.use(is_store ? store<E, 8> : load<E, 8>);
      form.unknown();
    default: form.unknown();
  }
}

void select_access(Form& form, bool is_store) {
  const MemoryForm memory = take_memory_form(form);
  const int vector = form.take_one({"v2", "v4", "v8"});
  const int elements = vector < 0 ? 1 : 2 << vector;
  const Type type = form.take_type();
  form.instruction.category = category(memory.space, is_store);
  form.instruction.parameter[3] = packed(memory);
  form.instruction.results = is_store ? 0 : static_cast<uint8_t>(elements);
  form.expect_operands(2, 3);
  const int bits = ptx::type_bits(type);
  if (bits * elements > 256) form.unknown();
  const int vector_operand = is_store ? 1 : 0;
  form.constant(vector_operand, type);
  for (int k = 0; k < elements; ++k) {
    const Operand& o = form.instruction[form.flat(vector_operand) + k];
    const bool is_sink = o.kind == OperandKind::sink && !is_store;
    if (!is_sink && (o.kind != OperandKind::row || o.bits < bits)) form.refuse("a register is too narrow for the type");
    if (bits == 128 && !is_sink && o.bits != 128) form.refuse("a register has the wrong width");
  }
  if (form.instruction[form.flat(is_store ? 0 : 1)].kind != OperandKind::address) form.refuse("an address is expected");
  switch (type) {
    case Type::b8:
    case Type::u8: return use_element<uint8_t>(form, elements, is_store);
    case Type::s8: return use_element<int8_t>(form, elements, is_store);
    case Type::s16: return use_element<int16_t>(form, elements, is_store);
    case Type::s32: return use_element<int32_t>(form, elements, is_store);
    case Type::b128:
      if (elements != 1) form.unknown();
      return form.use(is_store ? store<unsigned __int128, 1> : load<unsigned __int128, 1>);
    case Type::pred: form.unknown();
    default: break;
  }
  if (bits == 16) return use_element<uint16_t>(form, elements, is_store);
  if (bits == 32) return use_element<uint32_t>(form, elements, is_store);
  if (elements == 8) form.unknown();
  switch (elements) {
    case 1: return form.use(is_store ? store<uint64_t, 1> : load<uint64_t, 1>);
    case 2: return form.use(is_store ? store<uint64_t, 2> : load<uint64_t, 2>);
    default: return form.use(is_store ? store<uint64_t, 4> : load<uint64_t, 4>);
  }
}

}  // namespace

void select_load(Form& form) { select_access(form, false); }
void select_store(Form& form) { select_access(form, true); }

}  // namespace foretoken::machine
