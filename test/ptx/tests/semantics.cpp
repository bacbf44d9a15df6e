#include "semantics.h"

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <random>
#include <sstream>

#include "doctest.h"

namespace semantics {

using ptx_test::Device;

namespace {

constexpr uint64_t kBefore = 0x5a5a'5a5a'5a5a'5a5a;  // what results hold before
const char* const kResultNames[] = {"%d", "%e"};
const char* const kSourceNames[] = {"%a", "%b", "%c", "%f"};

std::string declare(char kind, const std::string& name) {
  switch (kind) {
    case 'h': return ".reg .b16 " + name + ";\n";
    case 'r': return ".reg .b32 " + name + ";\n";
    case 'd': return ".reg .b64 " + name + ";\n";
    default: return ".reg .pred " + name + ";\n";
  }
}

// Register `name` from the 64-bit register %x.
std::string fill(char kind, const std::string& name) {
  switch (kind) {
    case 'h': return "cvt.u16.u64 " + name + ", %x;\n";
    case 'r': return "cvt.u32.u64 " + name + ", %x;\n";
    case 'd': return "mov.b64 " + name + ", %x;\n";
    default: return "setp.ne.u64 " + name + ", %x, 0;\n";
  }
}

std::string take(char kind, const std::string& name) {
  switch (kind) {
    case 'h': return "cvt.u64.u16 %x, " + name + ";\n";
    case 'r': return "cvt.u64.u32 %x, " + name + ";\n";
    case 'd': return "mov.b64 %x, " + name + ";\n";
    default: return "selp.u64 %x, 1, 0, " + name + ";\n";
  }
}

uint64_t cut(char kind, uint64_t value) {
  switch (kind) {
    case 'h': return value & 0xffff;
    case 'r': return value & 0xffffffff;
    case 'd': return value;
    default: return value & 1;
  }
}

// One instruction a line; declarations have no guard.
std::string under_guard(const std::string& instructions) {
  std::istringstream lines(instructions);
  std::string result;
  for (std::string line; std::getline(lines, line);) result += (line[0] == '.' ? "" : "@%q ") + line + "\n";
  return result;
}

// Parameters: results[n][2], sources[n][4], n.
std::string kernel_text(const std::string& instruction, const std::string& signature, bool guarded) {
  const size_t split = signature.find('=');
  const std::string results = signature.substr(0, split), sources = signature.substr(split + 1);
  std::string body = ".reg .b64 %x, %at, %n; .reg .b32 %i, %w, %one; .reg .pred %q, %outside;\n";
  for (size_t k = 0; k < results.size(); ++k) body += declare(results[k], kResultNames[k]);
  for (size_t k = 0; k < sources.size(); ++k) body += declare(sources[k], kSourceNames[k]);
  body +=
      "mov.u32 %i, %ctaid.x; mov.u32 %w, %ntid.x; mad.lo.u32 %i, %i, %w, %t; cvt.u64.u32 %n, %i;\n"
      "setp.ge.u64 %outside, %n, %p2;\n@%outside exit;\n"
      "and.b32 %one, %i, 1; setp.ne.u32 %q, %one, 0;\nmad.lo.u64 %at, %n, 32, %p1;\n";
  for (size_t k = 0; k < sources.size(); ++k)
    body += "ld.global.u64 %x, [%at+" + std::to_string(8 * k) + "];\n" + fill(sources[k], kSourceNames[k]);
  body += "mov.b64 %x, " + std::to_string(kBefore) + ";\n";
  for (size_t k = 0; k < results.size(); ++k) body += fill(results[k], kResultNames[k]);
  body += guarded ? under_guard(instruction) : instruction + "\n";
  body += "mad.lo.u64 %at, %n, 16, %p0;\n";
  for (size_t k = 0; k < results.size(); ++k)
    body += take(results[k], kResultNames[k]) + "st.global.u64 [%at+" + std::to_string(8 * k) + "], %x;\n";
  return ptx_test::kernel(body, 3);
}

std::vector<std::vector<uint64_t>> launch(const std::string& text, const Operands& operands, size_t results,
                                          Device& device) {
  std::vector<uint64_t> flat(operands.size() * 4);
  for (size_t lane = 0; lane < operands.size(); ++lane)
    std::copy(operands[lane].begin(), operands[lane].end(), flat.begin() + static_cast<ptrdiff_t>(4 * lane));
  const uint64_t out = device.take_array<uint64_t>(2 * operands.size()), in = device.put(flat);
  device.shape.block = {64};
  device.shape.grid = {static_cast<uint32_t>((operands.size() + 63) / 64)};
  device.run(text, std::vector<uint64_t>{out, in, operands.size()});
  const auto raw = device.get<uint64_t>(out, 2 * operands.size());
  std::vector<std::vector<uint64_t>> found;
  for (size_t lane = 0; lane < operands.size(); ++lane)
    found.emplace_back(raw.begin() + static_cast<ptrdiff_t>(2 * lane),
                       raw.begin() + static_cast<ptrdiff_t>(2 * lane + results));
  return found;
}

std::string hex(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string describe(const std::string& instruction, const std::vector<uint64_t>& operands, uint64_t found,
                     uint64_t expected) {
  std::string text = instruction + " of";
  for (uint64_t operand : operands) text += " " + hex(operand);
  return text + ": found " + hex(found) + ", expected " + hex(expected);
}

void check_result(const std::string& instruction, const std::string& signature, const Operands& operands,
                  const Reference& reference, size_t which) {
  const char kind = signature[which];
  const size_t results = signature.find('=');
  Device device;
  const auto found = launch(kernel_text(instruction, signature, false), operands, results, device);
  const auto guarded = launch(kernel_text(instruction, signature, true), operands, results, device);
  int wrong = 0;
  std::string first;
  for (size_t lane = 0; lane < operands.size(); ++lane) {
    const uint64_t expected = cut(kind, reference(operands[lane]));
    const uint64_t held = kind == 'p' ? 1 : cut(kind, kBefore);
    const bool right = found[lane][which] == expected;
    const bool right_guarded = guarded[lane][which] == (lane % 2 ? expected : held);
    if (right && right_guarded) continue;
    if (wrong++ == 0)
      first = describe(instruction, operands[lane], (right ? guarded : found)[lane][which], expected) +
              (right ? ", under a guard" : "");
  }
  CHECK_MESSAGE(wrong == 0, first);
}

std::vector<uint64_t> with_random(std::vector<uint64_t> values, int bits, size_t count) {
  std::mt19937_64 random(static_cast<uint64_t>(bits));
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  for (size_t k = 0; k < count; ++k) values.push_back(random());
  for (uint64_t& value : values) value &= mask;
  return values;
}

}  // namespace

std::vector<std::vector<uint64_t>> run(const std::string& instruction, const std::string& signature,
                                       const Operands& operands, Device& device) {
  return launch(kernel_text(instruction, signature, false), operands, signature.find('='), device);
}

void check(const std::string& instruction, const std::string& signature, const Operands& operands,
           const Reference& reference) {
  check_result(instruction, signature, operands, reference, 0);
}

void check_second(const std::string& instruction, const std::string& signature, const Operands& operands,
                  const Reference& reference) {
  check_result(instruction, signature, operands, reference, 1);
}

std::vector<uint64_t> integers(int bits) {
  const uint64_t top = uint64_t{1} << (bits - 1);
  return with_random({0, 1, 2, 3, 7, 10, 255, top - 1, top, top + 1, ~uint64_t{0}, ~uint64_t{1}, ~uint64_t{6},
                      0x5555555555555555, 0x8000000080000000, 0x00ff00ff00ff00ff},
                     bits, 14);
}

std::vector<uint64_t> floats() {
  return with_random({0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000,
                      0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff, 0x40490fdb, 0x3dcccccd, 0xc2f6e979, 0x4b800000,
                      0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                      0x7fc00000, 0xffc00000, 0x7f800001, 0x3f000000, 0x3fc00000, 0x40200000, 0xbfc00000, 0x1e3ce508},
                     32, 12);
}

std::vector<uint64_t> doubles() {
  return with_random(
      {0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x800fffffffffffff, 0x0010000000000000,
       0x3ff0000000000000, 0xbff0000000000000, 0x3ff0000000000001, 0x3fefffffffffffff, 0x400921fb54442d18,
       0x3fb999999999999a, 0x41dfffffffc00000, 0xc1e0000000000000, 0x43e0000000000000, 0x7fefffffffffffff,
       0xffefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x3fe0000000000000,
       0x3ff8000000000000, 0x36a0000000000000, 0x380fffffffffffff, 0x47efffffe0000000, 0x47efffffefffffff},
      64, 12);
}

std::vector<uint64_t> halves() {
  return with_random(
      {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x007f, 0x0080, 0x3c00, 0xbc00, 0x3f80, 0xbf80, 0x7bff,
       0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0x3555, 0x4248, 0x0c01, 0x1234},
      16, 14);
}

std::vector<uint64_t> half_pairs() {
  const auto one = halves();
  std::vector<uint64_t> result;
  for (size_t k = 0; k < one.size(); ++k) result.push_back(one[k] | one[(k * 7 + 3) % one.size()] << 16);
  return result;
}

std::vector<uint64_t> amounts(int bits) {
  const uint64_t n = static_cast<uint64_t>(bits);
  return {0, 1, 2, 5, 8, 15, 16, 17, n - 1, n, n + 1, 2 * n - 1, 2 * n, 255, 256, 0x80000000, 0xffffffff};
}

Operands singles(const std::vector<uint64_t>& a) {
  Operands result;
  for (uint64_t x : a) result.push_back({x});
  return result;
}

Operands pairs(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  Operands result;
  for (uint64_t x : a)
    for (uint64_t y : b) result.push_back({x, y});
  return result;
}

Operands triples(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b, const std::vector<uint64_t>& c,
                 size_t count) {
  std::mt19937_64 random(3);
  Operands result;
  for (size_t k = 0; k < count; ++k)
    result.push_back({a[k % a.size()], b[random() % b.size()], c[random() % c.size()]});
  return result;
}

Operands quadruples(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b, const std::vector<uint64_t>& c,
                    const std::vector<uint64_t>& d, size_t count) {
  std::mt19937_64 random(4);
  Operands result;
  for (size_t k = 0; k < count; ++k)
    result.push_back({a[k % a.size()], b[random() % b.size()], c[random() % c.size()], d[random() % d.size()]});
  return result;
}

const HostRounding kRoundings[4] = {
    {"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

WithRounding::WithRounding(int mode) : saved_(std::fegetround()) { std::fesetround(mode); }
WithRounding::~WithRounding() { std::fesetround(saved_); }

double half_value(uint16_t pattern, bool is_bf16) {
  const int mantissa_bits = is_bf16 ? 7 : 10, exponent_bits = 15 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int mantissa = pattern & ((1 << mantissa_bits) - 1),
            exponent = pattern >> mantissa_bits & ((1 << exponent_bits) - 1);
  const double sign = pattern & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return std::copysign(mantissa ? std::nan("") : INFINITY, sign);
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

uint16_t round_half(double x, bool is_bf16, int mode) {
  if (x != x) return 0x7fff;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const uint16_t infinity = is_bf16 ? 0x7f80 : 0x7c00;
  const double size = std::fabs(x);
  // The largest value not above; patterns of one sign are ordered as their values.
  uint16_t low = 0, high = infinity;
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (half_value(middle, is_bf16) <= size ? low : high) = middle;
  }
  if (size == INFINITY) return sign | infinity;
  const double below = half_value(low, is_bf16);
  if (below == size) return sign | low;
  // Infinity stands where the next value would be if the exponent went on.
  const double step = below - half_value(static_cast<uint16_t>(low - 1), is_bf16);
  const double above = high == infinity ? below + step : half_value(high, is_bf16);
  bool up;
  if (mode == FE_TOWARDZERO)
    up = false;
  else if (mode == FE_DOWNWARD)
    up = sign != 0;
  else if (mode == FE_UPWARD)
    up = sign == 0;
  else
    up = size - below > above - size || (size - below == above - size && (low & 1));
  return sign | (up ? high : low);
}

}  // namespace semantics
