// Logic, shifts, fields, permutation, counting: bit by bit as the manual's pseudocode has it.
#include <bit>

#include "doctest.h"
#include "semantics.h"

using namespace semantics;

namespace {

struct Width {
  int bits;
  char kind;
};
constexpr Width kWidths[] = {{16, 'h'}, {32, 'r'}, {64, 'd'}};

std::string name(const char* prefix, int bits) { return prefix + std::to_string(bits); }
uint64_t mask_of(int bits) { return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }
int64_t signed_value(uint64_t x, int bits) { return static_cast<int64_t>(x << (64 - bits)) >> (64 - bits); }
bool bit(uint64_t x, int64_t k) { return x >> k & 1; }

}  // namespace

TEST_CASE("and, or, xor, not, cnot") {
  for (const Width& w : kWidths) {
    const auto values = integers(w.bits);
    const std::string two = std::string(1, w.kind) + "=" + w.kind + w.kind, one = std::string(1, w.kind) + "=" + w.kind;
    check(name("and.b", w.bits) + " %d, %a, %b;", two, pairs(values, values),
          [](const auto& v) { return v[0] & v[1]; });
    check(name("or.b", w.bits) + " %d, %a, %b;", two, pairs(values, values), [](const auto& v) { return v[0] | v[1]; });
    check(name("xor.b", w.bits) + " %d, %a, %b;", two, pairs(values, values),
          [](const auto& v) { return v[0] ^ v[1]; });
    check(name("not.b", w.bits) + " %d, %a;", one, singles(values), [](const auto& v) { return ~v[0]; });
    check(name("cnot.b", w.bits) + " %d, %a;", one, singles(values), [](const auto& v) { return v[0] == 0; });
  }
}

TEST_CASE("logic on predicates") {
  const std::vector<uint64_t> both = {0, 1};
  check("and.pred %d, %a, %b;", "p=pp", pairs(both, both), [](const auto& v) { return v[0] & v[1]; });
  check("or.pred %d, %a, %b;", "p=pp", pairs(both, both), [](const auto& v) { return v[0] | v[1]; });
  check("xor.pred %d, %a, %b;", "p=pp", pairs(both, both), [](const auto& v) { return v[0] ^ v[1]; });
  check("not.pred %d, %a;", "p=p", singles(both), [](const auto& v) { return !v[0]; });
  check("mov.pred %d, %a;", "p=p", singles(both), [](const auto& v) { return v[0]; });
  check("and.pred %d, %a, !%b;", "p=pp", pairs(both, both), [](const auto& v) { return v[0] & !v[1]; });
}

TEST_CASE("lop3: every truth table") {
  const auto values = integers(32);
  const auto operands = triples(values, values, values, 256);
  const auto table_of = [](int table, const std::vector<uint64_t>& v) {
    uint64_t result = 0;
    for (int k = 0; k < 32; ++k) {
      const int row = bit(v[0], k) << 2 | bit(v[1], k) << 1 | bit(v[2], k);
      result |= static_cast<uint64_t>(table >> row & 1) << k;
    }
    return result;
  };
  for (int table = 0; table < 256; ++table)
    check("lop3.b32 %d, %a, %b, %c, " + std::to_string(table) + ";", "r=rrr", operands,
          [&](const auto& v) { return table_of(table, v); });
  const auto four = quadruples(values, values, values, {0, 1}, 512);
  check("lop3.or.b32 %d|%e, %a, %b, %c, 0x80, %f;", "rp=rrrp", four, [&](const auto& v) { return table_of(0x80, v); });
  check_second("lop3.or.b32 %d|%e, %a, %b, %c, 0x80, %f;", "rp=rrrp", four,
               [&](const auto& v) { return table_of(0x80, v) != 0 || v[3]; });
  check_second("lop3.and.b32 %d|%e, %a, %b, %c, 0x96, !%f;", "rp=rrrp", four,
               [&](const auto& v) { return table_of(0x96, v) != 0 && !v[3]; });
}

TEST_CASE("shl, shr: amounts beyond the width clamp") {
  for (const Width& w : kWidths) {
    const auto operands = pairs(integers(w.bits), amounts(w.bits));
    const std::string signature = std::string(1, w.kind) + "=" + w.kind + "r";
    const auto left = [&](const auto& v) { return v[1] >= static_cast<uint64_t>(w.bits) ? 0 : v[0] << v[1]; };
    const auto right = [&](const auto& v) { return v[1] >= static_cast<uint64_t>(w.bits) ? 0 : v[0] >> v[1]; };
    check(name("shl.b", w.bits) + " %d, %a, %b;", signature, operands, left);
    check(name("shr.b", w.bits) + " %d, %a, %b;", signature, operands, right);
    check(name("shr.u", w.bits) + " %d, %a, %b;", signature, operands, right);
    check(name("shr.s", w.bits) + " %d, %a, %b;", signature, operands, [&](const auto& v) {
      return static_cast<uint64_t>(signed_value(v[0], w.bits) >>
                                   std::min<uint64_t>(v[1], static_cast<uint64_t>(w.bits) - 1));
    });
  }
}

TEST_CASE("shf: funnel shifts, clamped and wrapped") {
  const auto operands = triples(integers(32), integers(32), amounts(32));
  for (const bool clamp : {false, true})
    for (const bool left : {false, true})
      check(std::string("shf.") + (left ? "l." : "r.") + (clamp ? "clamp" : "wrap") + ".b32 %d, %a, %b, %c;", "r=rrr",
            operands, [&](const auto& v) {
              const uint64_t n = clamp ? std::min<uint64_t>(v[2], 32) : v[2] & 31;
              return left ? (v[1] << n) | (v[0] >> (32 - n)) : (v[1] << (32 - n)) | (v[0] >> n);
            });
}

TEST_CASE("bfe: fields past the end, the sign of empty ones") {
  for (const Width& w : {kWidths[1], kWidths[2]})
    for (const bool is_signed : {false, true}) {
      const std::string signature = std::string(1, w.kind) + "=" + w.kind + "rr";
      check(name(is_signed ? "bfe.s" : "bfe.u", w.bits) + " %d, %a, %b, %c;", signature,
            triples(integers(w.bits), amounts(w.bits), amounts(w.bits)), [&](const auto& v) {
              const int64_t position = v[1] & 0xff, length = v[2] & 0xff, top = w.bits - 1;
              const bool sign = is_signed && length != 0 && bit(v[0], std::min(position + length - 1, top));
              uint64_t result = 0;
              for (int64_t k = 0; k <= top; ++k)
                result |= static_cast<uint64_t>(k < length && position + k <= top ? bit(v[0], position + k) : sign)
                          << k;
              return result;
            });
    }
}

TEST_CASE("bfi") {
  for (const Width& w : {kWidths[1], kWidths[2]}) {
    const std::string signature = std::string(1, w.kind) + "=" + w.kind + w.kind + "rr";
    check(name("bfi.b", w.bits) + " %d, %a, %b, %c, %f;", signature,
          quadruples(integers(w.bits), integers(w.bits), amounts(w.bits), amounts(w.bits)), [&](const auto& v) {
            const int64_t position = v[2] & 0xff, length = v[3] & 0xff;
            uint64_t result = v[1];
            for (int64_t k = 0; k < length && position + k < w.bits; ++k)
              result = (result & ~(uint64_t{1} << (position + k))) | static_cast<uint64_t>(bit(v[0], k))
                                                                         << (position + k);
            return result;
          });
  }
}

TEST_CASE("bmsk, szext") {
  for (const bool clamp : {false, true}) {
    const std::string mode = clamp ? "clamp" : "wrap";
    check("bmsk." + mode + ".b32 %d, %a, %b;", "r=rr", pairs(amounts(32), amounts(32)), [&](const auto& v) {
      const uint64_t from = clamp ? std::min<uint64_t>(v[0], 32) : v[0] & 31,
                     length = clamp ? std::min<uint64_t>(v[1], 32) : v[1] & 31;
      uint64_t result = 0;
      for (uint64_t k = from; k < std::min<uint64_t>(32, from + length); ++k) result |= uint64_t{1} << k;
      return result;
    });
    for (const bool is_signed : {false, true})
      check("szext." + mode + (is_signed ? ".s32" : ".u32") + " %d, %a, %b;", "r=rr", pairs(integers(32), amounts(32)),
            [&](const auto& v) {
              if (clamp && v[1] >= 32) return v[0];
              const int width = static_cast<int>(v[1] & 31);
              if (width == 0) return uint64_t{0};
              const uint64_t field = v[0] & mask_of(width);
              return is_signed ? static_cast<uint64_t>(signed_value(field, width)) : field;
            });
  }
}

TEST_CASE("prmt: every selector of the general mode, and the six others") {
  const auto byte = [](const auto& v, uint64_t index) { return (v[0] | v[1] << 32) >> (8 * index) & 0xff; };
  std::vector<uint64_t> selectors;
  for (uint64_t k = 0; k < 16; ++k)
    selectors.push_back(k | ((k * 5 + 3) & 15) << 4 | ((k * 7 + 1) & 15) << 8 | ((15 - k) << 12) | 0xabcd0000);
  check("prmt.b32 %d, %a, %b, %c;", "r=rrr", triples(integers(32), integers(32), selectors), [&](const auto& v) {
    uint64_t result = 0;
    for (int k = 0; k < 4; ++k) {
      const uint64_t selector = v[2] >> (4 * k) & 15, value = byte(v, selector & 7);
      result |= (selector & 8 ? (value & 0x80 ? 0xff : 0) : value) << (8 * k);
    }
    return result;
  });
  // Which bytes, from byte 3 down to byte 0, for control 0 … 3, as in the manual's table (f4e, b4e: mod 8).
  struct Mode {
    const char* name;
    int bytes[4][4];
  };
  constexpr Mode kModes[] = {
      {"f4e", {{3, 2, 1, 0}, {4, 3, 2, 1}, {5, 4, 3, 2}, {6, 5, 4, 3}}},
      {"b4e", {{5, 6, 7, 0}, {6, 7, 0, 1}, {7, 0, 1, 2}, {0, 1, 2, 3}}},
      {"rc8", {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}}},
      {"ecl", {{3, 2, 1, 0}, {3, 2, 1, 1}, {3, 2, 2, 2}, {3, 3, 3, 3}}},
      {"ecr", {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 1, 0}, {3, 2, 1, 0}}},
      {"rc16", {{1, 0, 1, 0}, {3, 2, 3, 2}, {1, 0, 1, 0}, {3, 2, 3, 2}}},
  };
  for (const Mode& mode : kModes)
    check(std::string("prmt.b32.") + mode.name + " %d, %a, %b, %c;", "r=rrr",
          triples(integers(32), integers(32), {0, 1, 2, 3, 0xfffffff8, 0x11111112 & ~4u}), [&](const auto& v) {
            uint64_t result = 0;
            for (int k = 0; k < 4; ++k)
              result |= byte(v, static_cast<uint64_t>(mode.bytes[v[2] & 3][3 - k])) << (8 * k);
            return result;
          });
}

TEST_CASE("popc, clz, brev, bfind, fns") {
  for (const Width& w : {kWidths[1], kWidths[2]}) {
    const auto values = singles(integers(w.bits));
    const std::string to_u32 = std::string("r=") + w.kind;
    const auto highest = [&](uint64_t x) {
      for (int k = w.bits - 1; k >= 0; --k)
        if (bit(x, k)) return k;
      return -1;
    };
    check(name("popc.b", w.bits) + " %d, %a;", to_u32, values, [](const auto& v) {
      uint64_t count = 0;
      for (int k = 0; k < 64; ++k) count += bit(v[0], k);
      return count;
    });
    check(name("clz.b", w.bits) + " %d, %a;", to_u32, values,
          [&](const auto& v) { return static_cast<uint64_t>(w.bits - 1 - highest(v[0])); });
    check(name("brev.b", w.bits) + " %d, %a;", std::string(1, w.kind) + "=" + w.kind, values, [&](const auto& v) {
      uint64_t result = 0;
      for (int k = 0; k < w.bits; ++k) result |= static_cast<uint64_t>(bit(v[0], k)) << (w.bits - 1 - k);
      return result;
    });
    for (const bool is_signed : {false, true}) {
      const auto position = [&](uint64_t x) {
        return highest((is_signed && bit(x, w.bits - 1) ? ~x : x) & mask_of(w.bits));
      };
      check(name(is_signed ? "bfind.s" : "bfind.u", w.bits) + " %d, %a;", to_u32, values,
            [&](const auto& v) { return static_cast<uint64_t>(position(v[0])); });
      check(
          name(is_signed ? "bfind.shiftamt.s" : "bfind.shiftamt.u", w.bits) + " %d, %a;", to_u32, values,
          [&](const auto& v) { return static_cast<uint64_t>(position(v[0]) < 0 ? -1 : w.bits - 1 - position(v[0])); });
    }
  }
  check("fns.b32 %d, %a, %b, %c;", "r=rrr",
        triples(integers(32), {0, 1, 5, 16, 30, 31}, {0, 1, 2, 3, 9, 32, 0xffffffff, 0xfffffffe, 0xfffffff0}),
        [](const auto& v) {
          const int offset = static_cast<int>(static_cast<int32_t>(v[2]));
          int position = static_cast<int>(v[1]);
          if (offset == 0) return bit(v[0], position) ? v[1] : 0xffffffff;
          int left = std::abs(offset);
          for (; position >= 0 && position < 32; position += offset > 0 ? 1 : -1)
            if (bit(v[0], position) && --left == 0) return static_cast<uint64_t>(position);
          return uint64_t{0xffffffff};
        });
}
