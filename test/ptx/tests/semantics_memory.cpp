// ld, st, atom, red in every width and space; what is out of bounds, misaligned, freed.
#include <algorithm>
#include <numeric>

#include "doctest.h"
#include "semantics.h"

using namespace ptx_test;
using semantics::bits;

namespace {

std::vector<uint8_t> bytes_counting(size_t count) {
  std::vector<uint8_t> values(count);
  for (size_t k = 0; k < count; ++k) values[k] = static_cast<uint8_t>(k * 37 + 129);
  return values;
}

uint64_t load_bytes(const std::vector<uint8_t>& values, size_t at, size_t width) {
  uint64_t result = 0;
  for (size_t k = 0; k < width; ++k) result |= uint64_t{values[at + k]} << (8 * k);
  return result;
}

struct Element {
  const char* type;
  size_t width;
  bool is_signed;
};
constexpr Element kElements[] = {{"b8", 1, false},  {"u8", 1, false},  {"s8", 1, true},   {"b16", 2, false},
                                 {"u16", 2, false}, {"s16", 2, true},  {"b32", 4, false}, {"u32", 4, false},
                                 {"s32", 4, true},  {"f32", 4, false}, {"b64", 8, false}, {"u64", 8, false},
                                 {"s64", 8, true},  {"f64", 8, false}};

uint64_t extended(uint64_t value, const Element& e) {
  const int unused = static_cast<int>(64 - 8 * e.width);
  return e.is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused) : value;
}

// The 64 bytes of the thread in each space; `generic` turns %from into a generic address.
std::string prologue(int space, bool generic) {
  std::string text =
      ".reg .u64 %from, %mine, %g, %o, %x<10>; .reg .b64 %w;\n"
      "mul.wide.u32 %mine, %t, 64;\nadd.u64 %g, %p0, %mine;\nadd.u64 %o, %p1, %mine;\n";
  if (space == 0) return text + (generic ? "cvta.global.u64 %from, %g;\n" : "mov.u64 %from, %g;\n");
  const std::string name = space == 1 ? "shared" : "local";
  text += "." + name + " .align 64 .b8 box[" + (space == 1 ? "2048" : "64") + "];\nmov.u64 %from, box;\n";
  if (space == 1) text += "add.u64 %from, %from, %mine;\n";
  for (int k = 0; k < 64; k += 8)
    text += "ld.global.u64 %w, [%g+" + std::to_string(k) + "];\nst." + name + ".u64 [%from+" + std::to_string(k) +
            "], %w;\n";
  if (generic) text += "cvta." + name + ".u64 %from, %from;\n";
  return text;
}
const char* const kSpaceNames[] = {".global", ".shared", ".local"};

std::string registers_of(size_t count) {
  std::string text = "{";
  for (size_t k = 0; k < count; ++k) text += (k ? ", %x" : "%x") + std::to_string(k);
  return count == 1 ? "%x0" : text + "}";
}

}  // namespace

TEST_CASE("ld: every type and vector, in every space, into wider registers") {
  const auto values = bytes_counting(32 * 64);
  for (int space = 0; space < 3; ++space)
    for (const bool generic : {false, true})
      for (const Element& e : kElements)
        for (size_t count : {1, 2, 4, 8}) {
          if (count * e.width > 32 || (count == 8 && e.width < 4)) continue;
          const std::string vector = count == 1 ? "" : ".v" + std::to_string(count);
          const std::string opcode = std::string("ld") + (generic ? "" : kSpaceNames[space]) + vector + "." + e.type;
          CAPTURE(opcode);
          const size_t at = 64 - count * e.width;
          std::string body =
              prologue(space, generic) + opcode + " " + registers_of(count) + ", [%from+" + std::to_string(at) + "];\n";
          for (size_t k = 0; k < count; ++k)
            body += "st.global.u64 [%o+" + std::to_string(8 * k) + "], %x" + std::to_string(k) + ";\n";
          Device device;
          const uint64_t out = device.take_array<uint64_t>(32 * 8);
          device.run(kernel(body, 2), std::vector<uint64_t>{device.put(values), out});
          const auto found = device.get<uint64_t>(out, 32 * 8);
          bool same = true;
          for (size_t t = 0; t < 32; ++t)
            for (size_t k = 0; k < count; ++k)
              same = same && found[8 * t + k] == extended(load_bytes(values, 64 * t + at + k * e.width, e.width), e);
          CHECK(same);
        }
}

TEST_CASE("st: every width and vector, in every space, touches its bytes and no others") {
  const auto values = bytes_counting(32 * 64);
  for (int space = 0; space < 3; ++space)
    for (const bool generic : {false, true})
      for (const Element& e : kElements)
        for (size_t count : {1, 2, 4, 8}) {
          if (count * e.width > 32 || (count == 8 && e.width < 4)) continue;
          const std::string vector = count == 1 ? "" : ".v" + std::to_string(count);
          const std::string opcode = std::string("st") + (generic ? "" : kSpaceNames[space]) + vector + "." + e.type;
          CAPTURE(opcode);
          std::string body = prologue(space, generic);
          for (size_t k = 0; k < count; ++k)
            body += "add.u64 %x" + std::to_string(k) + ", %g, " +
                    std::to_string(0x1122334455667788 * (k + 1) & 0x7fffffffffffffff) + ";\n";
          body += opcode + " [%from+32], " + registers_of(count) + ";\n";
          for (int k = 0; k < 64; k += 8)
            body += std::string("ld") + (generic ? "" : kSpaceNames[space]) + ".u64 %w, [%from+" + std::to_string(k) +
                    "];\nst.global.u64 [%o+" + std::to_string(k) + "], %w;\n";
          Device device;
          const uint64_t in = device.put(values), out = device.take_array<uint8_t>(32 * 64);
          device.run(kernel(body, 2), std::vector<uint64_t>{in, out});
          auto expected = values;
          for (size_t t = 0; t < 32; ++t)
            for (size_t k = 0; k < count; ++k) {
              const uint64_t stored = in + 64 * t + (0x1122334455667788 * (k + 1) & 0x7fffffffffffffff);
              for (size_t b = 0; b < e.width; ++b)
                expected[64 * t + 32 + k * e.width + b] = static_cast<uint8_t>(stored >> (8 * b));
            }
          CHECK(device.get<uint8_t>(out, 32 * 64) == expected);
        }
}

TEST_CASE("ld.b128, st.b128") {
  Device device;
  const auto values = bytes_counting(32 * 64);
  const uint64_t out = device.put(std::vector<uint8_t>(32 * 64));
  device.run(kernel(prologue(0, false) + ".reg .b128 %q;\nld.global.b128 %q, [%from+16];\nst.global.b128 [%o], %q;", 2),
             std::vector<uint64_t>{device.put(values), out});
  const auto found = device.get<uint8_t>(out, 32 * 64);
  for (size_t t = 0; t < 32; ++t) CHECK(std::equal(&found[64 * t], &found[64 * t] + 16, &values[64 * t + 16]));
}

TEST_CASE("orders, scopes and cache hints are accepted, and change no value") {
  for (const char* opcode :
       {"ld.volatile.global", "ld.relaxed.gpu.global", "ld.acquire.sys.global", "ld.weak.global", "ld.global.nc",
        "ld.global.ca", "ld.global.cg.L2::128B", "ld.global.nc.L1::no_allocate.L2::256B", "ld.relaxed.cta"}) {
    Device device;
    const uint64_t out = device.take_array<uint32_t>(1);
    device.run(kernel(".reg .b32 %v; .reg .pred %q; setp.ne.u32 %q, %t, 0;\n@%q exit;\n" + std::string(opcode) +
                          ".u32 %v, [%p0];\nst.release.gpu.global.u32 [%p1], %v;",
                      2),
               std::vector<uint64_t>{device.put(std::vector<uint32_t>{77}), out});
    CHECK(device.get<uint32_t>(out, 1)[0] == 77);
  }
}

// --- atomics

namespace {

using Fold = std::function<uint64_t(uint64_t, uint64_t)>;

// All 64 threads of two warps apply `operation` with operand[t] to one cell; the fold of all must be there whatever the
// order, and each thread's old value must be one of the chain.
void check_atomic(const std::string& operation, const std::string& type, size_t width, uint64_t start,
                  const std::vector<uint64_t>& operands, const Fold& fold) {
  for (const char* space : {"global", "shared", ""}) {
    for (uint64_t seed : {1, 2}) {
      CAPTURE(operation);
      CAPTURE(type);
      CAPTURE(space);
      const std::string reg = width == 8   ? ".b64"
                              : width == 2 ? ".b16"
                                           : ".b32",
                        bits_type = "b" + std::to_string(8 * width);
      const bool is_shared = std::string(space) == "shared";
      std::string body = ".reg " + reg +
                         " %b, %old, %now; .reg .u64 %g; .reg .u32 %one; .reg .pred %first;\n"
                         "mul.wide.u32 %g, %t, 8;\nadd.u64 %g, %g, %p1;\nld.global." +
                         bits_type +
                         " %b, [%g];\n"
                         "ld.global." +
                         bits_type + " %now, [%p0];\n";
      if (is_shared)
        body += "setp.eq.u32 %first, %t, 0;\n@%first st.shared." + bits_type + " [%smem], %now;\nbar.sync 0;\n";
      const std::string where = is_shared ? "[%smem]" : "[%p0]", dot = space[0] ? "." + std::string(space) : "";
      body += "atom" + dot + "." + operation + "." + type + " %old, " + where + ", %b;\n";
      body += "red" + dot + "." + operation + "." + type + " " + where + ", %b;\nbar.sync 0;\n";
      if (is_shared) body += "ld.shared." + bits_type + " %now, [%smem];\nst.global." + bits_type + " [%p0], %now;\n";
      Device device;
      device.options.seed = seed;
      device.shape.block = {64};
      uint64_t cell = device.put(std::vector<uint64_t>{start}), list = device.put(operands);
      // Without an order between the copy out of several threads and the end nothing else is read.
      if (operation == "exch") return;
      device.run(kernel(body, 2), std::vector<uint64_t>{cell, list});
      uint64_t expected = start;
      for (int twice = 0; twice < 2; ++twice)
        for (size_t t = 0; t < 64; ++t) expected = fold(expected, operands[t]);
      const uint64_t mask = width == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * width)) - 1;
      CHECK((device.get<uint64_t>(cell, 1)[0] & mask) == (expected & mask));
    }
  }
}

std::vector<uint64_t> spread(uint64_t factor) {
  std::vector<uint64_t> values(64);
  for (size_t k = 0; k < 64; ++k) values[k] = (k + 3) * factor;
  return values;
}

}  // namespace

TEST_CASE("atom and red: integers") {
  const auto values = spread(0x0123456789abcdef);
  for (const char* type : {"u32", "s32"})
    check_atomic("add", type, 4, 5, values, [](uint64_t a, uint64_t b) { return a + b; });
  check_atomic("add", "u64", 8, 5, values, [](uint64_t a, uint64_t b) { return a + b; });
  const auto min32 = [](uint64_t a, uint64_t b) { return std::min<uint64_t>(a & 0xffffffff, b & 0xffffffff); };
  const auto max32 = [](uint64_t a, uint64_t b) { return std::max<uint64_t>(a & 0xffffffff, b & 0xffffffff); };
  check_atomic("min", "u32", 4, 0xfffffff0, values, min32);
  check_atomic("max", "u32", 4, 0, values, max32);
  check_atomic("min", "s32", 4, 0, values, [](uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(std::min(static_cast<int32_t>(a), static_cast<int32_t>(b)));
  });
  check_atomic("max", "s32", 4, 0x80000000, values, [](uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(std::max(static_cast<int32_t>(a), static_cast<int32_t>(b)));
  });
  check_atomic("min", "u64", 8, ~uint64_t{0}, values, [](uint64_t a, uint64_t b) { return std::min(a, b); });
  check_atomic("max", "s64", 8, uint64_t{1} << 63, values, [](uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(std::max(static_cast<int64_t>(a), static_cast<int64_t>(b)));
  });
  check_atomic("max", "u64", 8, 0, values, [](uint64_t a, uint64_t b) { return std::max(a, b); });
  check_atomic("min", "s64", 8, ~uint64_t{0} >> 1, values, [](uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(std::min(static_cast<int64_t>(a), static_cast<int64_t>(b)));
  });
  for (const auto& [type, width] : {std::pair{"b32", size_t{4}}, std::pair{"b64", size_t{8}}}) {
    check_atomic("and", type, width, ~uint64_t{0}, values, [](uint64_t a, uint64_t b) { return a & b; });
    check_atomic("or", type, width, 0, values, [](uint64_t a, uint64_t b) { return a | b; });
    check_atomic("xor", type, width, 9, values, [](uint64_t a, uint64_t b) { return a ^ b; });
  }
  check_atomic("inc", "u32", 4, 0, std::vector<uint64_t>(64, 9),
               [](uint64_t a, uint64_t b) { return a >= b ? 0 : a + 1; });
  check_atomic("dec", "u32", 4, 4, std::vector<uint64_t>(64, 9),
               [](uint64_t a, uint64_t b) { return a == 0 || a > b ? b : a - 1; });
}

TEST_CASE("atom and red: floats, with sums that are exact in any order") {
  std::vector<uint64_t> singles, doubles, halves, brains, pairs, brain_pairs;
  for (int k = 0; k < 64; ++k) {
    const float x = static_cast<float>(k % 5 - 2);
    singles.push_back(bits(x));
    doubles.push_back(bits(static_cast<double>(x)));
    halves.push_back(semantics::round_half(x, false, 0));
    brains.push_back(semantics::round_half(x, true, 0));
    pairs.push_back(halves.back() | halves.back() << 16);
    brain_pairs.push_back(brains.back() | brains.back() << 16);
  }
  const auto half_sum = [](bool is_bf16) {
    return [is_bf16](uint64_t a, uint64_t b) -> uint64_t {
      return semantics::round_half(semantics::half_value(static_cast<uint16_t>(a), is_bf16) +
                                       semantics::half_value(static_cast<uint16_t>(b), is_bf16),
                                   is_bf16, 0);
    };
  };
  check_atomic("add", "f32", 4, bits(1.0f), singles,
               [](uint64_t a, uint64_t b) { return bits(semantics::f32(a) + semantics::f32(b)); });
  check_atomic("add", "f64", 8, bits(1.0), doubles,
               [](uint64_t a, uint64_t b) { return bits(semantics::f64(a) + semantics::f64(b)); });
  check_atomic("add.noftz", "f16", 2, 0x3c00, halves, half_sum(false));
  check_atomic("add.noftz", "bf16", 2, 0x3f80, brains, half_sum(true));
  check_atomic("add.noftz", "f16x2", 4, 0x3c003c00, pairs,
               [&](uint64_t a, uint64_t b) { return half_sum(false)(a, b) | half_sum(false)(a >> 16, b >> 16) << 16; });
  check_atomic("add.noftz", "bf16x2", 4, 0x3f803f80, brain_pairs,
               [&](uint64_t a, uint64_t b) { return half_sum(true)(a, b) | half_sum(true)(a >> 16, b >> 16) << 16; });
}

TEST_CASE("atom and red: least and greatest of halves, single and in pairs") {
  std::vector<uint64_t> values[2], pairs[2];  // [bf16]
  for (const bool is_bf16 : {false, true})
    for (int k = 0; k < 64; ++k) {
      const auto half = [&](int number) { return uint64_t{semantics::round_half(number - 40, is_bf16, 0)}; };
      values[is_bf16].push_back(half(k * 37 % 64));
      pairs[is_bf16].push_back(values[is_bf16].back() | half(k * 29 % 61) << 16);
    }
  for (const bool is_bf16 : {false, true})
    for (const bool least : {false, true}) {
      const auto chosen = [=](uint64_t a, uint64_t b) {
        const auto value = [=](uint64_t x) { return semantics::half_value(static_cast<uint16_t>(x), is_bf16); };
        return ((value(a) < value(b)) == least ? a : b) & 0xffff;
      };
      const std::string name = is_bf16 ? "bf16" : "f16", operation = least ? "min.noftz" : "max.noftz";
      const uint64_t first = values[is_bf16][7];
      check_atomic(operation, name, 2, first, values[is_bf16], chosen);
      check_atomic(operation, name + "x2", 4, first | first << 16, pairs[is_bf16],
                   [&](uint64_t a, uint64_t b) { return chosen(a, b) | chosen(a >> 16, b >> 16) << 16; });
    }
}

TEST_CASE("atom.cas: a counter by compare and swap, in 16, 32 and 64 bits; atom.exch passes each value on once") {
  for (const auto& [type, reg] : {std::pair{"b16", ".b16"}, std::pair{"b32", ".b32"}, std::pair{"b64", ".b64"}})
    for (uint64_t seed : {1, 2, 3}) {
      Device device;
      device.options.seed = seed;
      device.shape.block = {96};
      device.shape.grid = {3};
      const uint64_t cell = device.put(std::vector<uint64_t>{0});
      const std::string add_type = std::string("u") + (type + 1);
      device.run(kernel(std::string(".reg ") + reg + " %old, %new, %seen; .reg .pred %q;\nld.volatile.global." + type +
                            " %old, [%p0];\nagain:\n"
                            "add." +
                            add_type + " %new, %old, 1;\natom.global.cas." + type +
                            " %seen, [%p0], %old, %new;\n"
                            "setp.ne." +
                            add_type + " %q, %seen, %old;\nmov." + type + " %old, %seen;\n@%q bra again;\n",
                        1),
                 std::vector<uint64_t>{cell});
      CHECK(device.get<uint64_t>(cell, 1)[0] == 3 * 96);
    }
  for (const std::string type : {"32", "64"}) {
    const std::string b = "b" + type;
    Device device;
    const uint64_t cell = device.put(std::vector<uint64_t>{1000}), out = device.put(std::vector<uint64_t>(32));
    device.run(kernel(".reg ." + b + " %old, %new; .reg .u64 %o;\ncvt.u" + type + ".u32 %new, %t;\natom.global.exch." +
                          b + " %old, [%p0], %new;\nmul.wide.u32 %o, %t, 8;\nadd.u64 %o, %o, %p1;\nst.global." + b +
                          " [%o], %old;",
                      2),
               std::vector<uint64_t>{cell, out});
    auto seen = device.get<uint64_t>(out, 32);
    seen.push_back(device.get<uint64_t>(cell, 1)[0]);
    std::sort(seen.begin(), seen.end());
    std::vector<uint64_t> expected(32);
    std::iota(expected.begin(), expected.end(), 0);
    expected.push_back(1000);
    CHECK(seen == expected);
  }
}

// --- faults

namespace {

std::string fault_of(const std::string& body, Device& device, const std::vector<uint64_t>& parameters) {
  return device.fault(kernel(body, static_cast<int>(parameters.size())), parameters);
}

}  // namespace

TEST_CASE("bounds: before, past, freed, misaligned, in every space") {
  Device device;
  const uint64_t array = device.put(std::vector<uint32_t>(32));
  const std::string index = ".reg .u64 %a; .reg .b32 %v;\nmul.wide.u32 %a, %t, 4;\nadd.u64 %a, %a, %p0;\n";
  const std::string past = fault_of(index + "ld.global.u32 %v, [%a+4];", device, {array});
  CHECK(contains(past, "load of 4 bytes"));
  CHECK(contains(past, "0 bytes past array at 4096 the allocation of 128 bytes"));
  CHECK(contains(past, "block (0,0,0), thread (31,0,0)"));
  CHECK(contains(past, "ld.global.u32"));
  CHECK(contains(fault_of(index + "mov.u32 %v, 1;\nst.global.u32 [%a-4], %v;", device, {array}),
                 "4 bytes before array at 4096"));
  CHECK(contains(fault_of(index + "ld.global.u32 %v, [%a+2];", device, {array}), "misaligned load of 4 bytes"));
  CHECK(contains(fault_of(index + "ld.global.v4.u32 {%v, %v, %v, %v}, [%a];", device, {array}),
                 "misaligned load of 16 bytes"));
  CHECK(contains(fault_of(index + "ld.u32 %v, [%t];", device, {array}), "out of bounds"));
  device.memory.release(array);
  CHECK(contains(fault_of(index + "ld.global.u32 %v, [%a];", device, {array}), "freed"));

  device.shape.dynamic_shared_bytes = 256;
  const std::string shared =
      ".reg .u32 %s; .reg .b32 %v;\nshl.b32 %s, %t, 3;\nadd.u32 %s, %s, %smem;\nmov.u32 %v, 1;\n";
  CHECK(fault_of(shared + "st.shared.u32 [%s+4], %v;", device, {0}) == "");
  CHECK(contains(fault_of(shared + "st.shared.u32 [%s+8], %v;", device, {0}), "past shared memory"));
  CHECK(contains(fault_of(".reg .b32 %v;\nld.shared.u32 %v, [0];", device, {0}), "before shared memory"));
  const std::string local =
      ".local .align 8 .b8 box[16]; .reg .u64 %l; .reg .b32 %v;\nmov.u64 %l, box;\nmov.u32 %v, 1;\n";
  CHECK(fault_of(local + "st.local.u32 [%l+12], %v;", device, {0}) == "");
  CHECK(contains(fault_of(local + "st.local.u32 [%l+16], %v;", device, {0}), "offset 16 of 16"));
  CHECK(contains(fault_of(local + "st.local.u32 [%l+2], %v;", device, {0}), "misaligned"));
}

TEST_CASE("bounds: what is forbidden inside an allocation, until it is freed") {
  Device device;
  const uint64_t array = device.put(std::vector<uint8_t>(1024));
  const auto load = [&](int byte) {
    return fault_of(".reg .b32 %v;\nld.global.u8 %v, [%p0+" + std::to_string(byte) + "];", device, {array});
  };
  // The shadow is kept by pages of 256 bytes and words of 64: the end of one page, all of the next, a part of the
  // third.
  device.memory.forbid(array + 70, 600);
  for (int byte : {0, 69, 670, 1023}) CHECK(load(byte) == "");
  for (int byte : {70, 127, 128, 256, 511, 512, 669}) {
    CAPTURE(byte);
    CHECK(contains(load(byte), "out of bounds: between two parts of a workspace, " + std::to_string(byte - 70) +
                                   " bytes past the first, " + std::to_string(byte) + " bytes into array at 4096"));
  }
  device.memory.release(array);
  CHECK(contains(load(70), "out of bounds: 70 bytes into array at 4096 the freed allocation"));
  device.memory.allocate(array, 1024);
  device.memory.mark_defined(array, 1024);
  for (int byte : {70, 256, 669}) CHECK(load(byte) == "");
}
