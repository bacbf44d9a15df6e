// Instructions against references computed by the host: one instruction (or a few, one a line), many operand values.
//
// check("add.s32 %d, %a, %b;", "r=rr", pairs(…), reference) runs the instruction for each column of operands, in whole
// warps and again under a guard that lets every second lane execute, and compares with reference(a, b, …).
// Signature: results, '=', sources; h 16 bits, r 32, d 64, p a predicate. Results are %d, %e; sources %a, %b, %c, %f.
#pragma once
#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ptx_device.h"

namespace semantics {

// Operand values, lane by lane: operands[k][source].
using Operands = std::vector<std::vector<uint64_t>>;
// The expected result, all results packed as written; values wider than the register are cut.
using Reference = std::function<uint64_t(const std::vector<uint64_t>&)>;

// Results of `instruction` by lane: [lane][result].
std::vector<std::vector<uint64_t>> run(const std::string& instruction, const std::string& signature,
                                       const Operands& operands, ptx_test::Device& device);

void check(const std::string& instruction, const std::string& signature, const Operands& operands,
           const Reference& reference);
// The second result, %e.
void check_second(const std::string& instruction, const std::string& signature, const Operands& operands,
                  const Reference& reference);

// Interesting values, then some at random (always the same).
std::vector<uint64_t> integers(int bits);
std::vector<uint64_t> floats();
std::vector<uint64_t> doubles();
std::vector<uint64_t> halves();           // f16 and bf16 patterns
std::vector<uint64_t> half_pairs();       // two of them
std::vector<uint64_t> amounts(int bits);  // of shifts, positions, lengths

// Every value; every pair; a sample of triples with every value in every place.
Operands singles(const std::vector<uint64_t>& a);
Operands pairs(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b);
Operands triples(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b, const std::vector<uint64_t>& c,
                 size_t count = 3000);
Operands quadruples(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b, const std::vector<uint64_t>& c,
                    const std::vector<uint64_t>& d, size_t count = 3000);

inline float f32(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }
inline double f64(uint64_t bits) { return std::bit_cast<double>(bits); }
inline uint64_t bits(float x) { return std::bit_cast<uint32_t>(x); }
inline uint64_t bits(double x) { return std::bit_cast<uint64_t>(x); }
// What f32 instructions make of NaN.
inline uint64_t canonical(float x) { return x != x ? 0x7fffffff : bits(x); }

// The rounding modes of PTX by their suffix, as the host's fesetround takes them.
struct HostRounding {
  const char* suffix;
  int mode;
};
extern const HostRounding kRoundings[4];
// fesetround while it lives.
class WithRounding {
 public:
  explicit WithRounding(int mode);
  ~WithRounding();

 private:
  int saved_;
};

// A 16-bit float's value, from its definition; and the nearest by any rounding, by search among all values.
double half_value(uint16_t bits, bool is_bf16);
uint16_t round_half(double x, bool is_bf16, int mode);

}  // namespace semantics
