// Proof of an allocation by walking: lanes take their own random paths through the program, interleaved at random, in
// one shared register file. Whatever a lane reads must be what it last wrote to that register, and what it never wrote
// must still read as it was in the beginning.
#pragma once
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "ptx/accesses.h"
#include "ptx/registers.h"

namespace foretoken::ptx {

class Walk {
 public:
  Walk(const Module& module, const Function& function, const ControlFlow& flow, const Allocation& allocation,
       uint64_t seed)
      : module_(module), function_(function), flow_(flow), allocation_(allocation), random_(seed) {
    words_.assign(static_cast<size_t>(allocation.rows) * 32, kUndefined);
    predicates_.assign(static_cast<size_t>(allocation.predicates) * 32, kUndefined);
    for (const Statement& statement : function.body)
      accesses_.push_back(register_accesses(module, function, statement));
    for (int lane = 0; lane < 32; ++lane)
      lanes_.push_back({0, std::vector<uint32_t>(function.registers.size(), kUndefined), {}});
  }

  // Returns the first wrong read, or an empty string.
  std::string run(int steps) {
    for (int step = 0; step < steps && error_.empty(); ++step) {
      const uint32_t lane = pick(32);
      if (lanes_[lane].at < function_.body.size()) execute(lane);
    }
    return error_;
  }

 private:
  static constexpr uint32_t kUndefined = 0;

  struct Lane {
    uint32_t at = 0;
    std::vector<uint32_t> last_written;  // [registers] the value, each written value being a new number
    std::vector<uint32_t> in_flight;     // registers that the tensor core may write at any time
  };

  uint32_t pick(uint32_t count) { return static_cast<uint32_t>(random_() % count); }

  // The words of the shared file where a lane keeps a register, as registers.h lays them out.
  std::vector<uint32_t*> place(uint32_t lane, uint32_t reg) {
    const uint32_t slot = allocation_.slot[reg];
    const int bits = type_bits(function_.registers[reg].type);
    if (bits == 1) return {&predicates_.at(slot * 32 + lane)};
    const uint32_t words = bits <= 32 ? 1 : static_cast<uint32_t>(bits) / 32;
    std::vector<uint32_t*> found;
    for (uint32_t w = 0; w < words; ++w) found.push_back(&words_.at(slot * 32 + lane * words + w));
    return found;
  }

  void put(uint32_t lane, uint32_t reg, uint32_t value) {
    for (uint32_t* word : place(lane, reg)) *word = value;
  }

  void write(uint32_t lane, uint32_t reg) {
    put(lane, reg, ++values_);
    lanes_[lane].last_written[reg] = values_;
  }

  void check(uint32_t lane, uint32_t reg, const Statement& statement) {
    for (const uint32_t* word : place(lane, reg))
      if (*word != lanes_[lane].last_written[reg])
        error_ = "lane " + std::to_string(lane) + " reads a wrong " + function_.registers[reg].text() + " in " +
                 statement_text(module_, statement);
  }

  void execute(uint32_t lane) {
    Lane& state = lanes_[lane];
    for (const uint32_t reg : state.in_flight) put(lane, reg, state.last_written[reg]);
    const uint32_t at = state.at;
    const Statement& statement = function_.body[at];
    const bool skipped = statement.guard && pick(2) == 0;
    if (statement.guard) check(lane, *statement.guard, statement);
    if (!skipped) registers(lane, at, statement);
    state.at = next(at, skipped);
  }

  // Results are written before sources are read, the worst an interpreter can do; only a plain mov reads first.
  void registers(uint32_t lane, uint32_t at, const Statement& statement) {
    const bool is_move = statement.mnemonic == "mov" && statement.operands[0].kind == OperandKind::reg;
    const auto early = [&](const Access& access) { return access.written && !access.read && !is_move; };
    for (const Access& access : accesses_[at])
      if (early(access)) write(lane, access.reg);
    for (const Access& access : accesses_[at])
      if (access.read) check(lane, access.reg, statement);
    for (const Access& access : accesses_[at])
      if (access.written && !early(access)) write(lane, access.reg);
    if (statement.has("mma_async"))
      for (const Access& access : accesses_[at]) lanes_[lane].in_flight.push_back(access.reg);
    if (statement.has("wait_group") && statement.mnemonic == "wgmma" && statement.operands[0].bits == 0)
      lanes_[lane].in_flight.clear();
  }

  uint32_t next(uint32_t at, bool skipped) {
    const Block& block = flow_.blocks[flow_.block_of[at]];
    if (at + 1 < block.end) return at + 1;
    if (block.successors.empty()) return static_cast<uint32_t>(function_.body.size());
    const Statement& statement = function_.body[at];
    if (skipped) return at + 1;
    if (statement.mnemonic == "bra") return statement.operands[0].target;
    if (statement.mnemonic == "brx")
      return statement.operands[1].elements[pick(static_cast<uint32_t>(statement.operands[1].elements.size()))].target;
    if (statement.mnemonic == "ret" || statement.mnemonic == "exit" || statement.mnemonic == "trap")
      return static_cast<uint32_t>(function_.body.size());
    return at + 1;
  }

  const Module& module_;
  const Function& function_;
  const ControlFlow& flow_;
  const Allocation& allocation_;
  std::mt19937_64 random_;
  std::vector<uint32_t> words_, predicates_;
  std::vector<std::vector<Access>> accesses_;
  std::vector<Lane> lanes_;
  uint32_t values_ = kUndefined;
  std::string error_;
};

}  // namespace foretoken::ptx
