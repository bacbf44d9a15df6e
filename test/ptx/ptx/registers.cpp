#include "registers.h"

#include <algorithm>
#include <array>

#include "liveness.h"

namespace foretoken::ptx {
namespace {

// Registers of one class are interchangeable; classes never share rows.
enum class Class : uint8_t { predicate, one_row, two_rows, four_rows };
constexpr int kClasses = 4;

Class class_of(Type type) {
  switch (type_bits(type)) {
    case 1: return Class::predicate;
    case 64: return Class::two_rows;
    case 128: return Class::four_rows;
    default: return Class::one_row;
  }
}

struct Graph {
  std::vector<std::vector<uint32_t>> neighbours;  // [registers], of the same class, with repetitions
  std::vector<std::vector<uint32_t>> moves;       // [registers] others that a mov copies to or from
  std::vector<uint32_t> order;                    // registers that are mentioned, by their first place in the text
};

bool is_register_move(const Function& function, const Statement& statement) {
  return statement.mnemonic == "mov" && !statement.guard && statement.operands.size() == 2 &&
         statement.operands[0].kind == OperandKind::reg && statement.operands[1].kind == OperandKind::reg &&
         class_of(function.registers[statement.operands[0].reg].type) ==
             class_of(function.registers[statement.operands[1].reg].type);
}

class GraphBuilder {
 public:
  GraphBuilder(const Function& function, const ControlFlow& flow, const Liveness& live)
      : function_(function), flow_(flow), live_(live) {
    const size_t count = function.registers.size();
    graph_.neighbours.resize(count);
    graph_.moves.resize(count);
    for (int c = 0; c < kClasses; ++c) members_.emplace_back(count);
    for (uint32_t r = 0; r < count; ++r) members_[static_cast<int>(class_of(function.registers[r].type))].add(r);
  }

  Graph build() {
    std::vector<bool> mentioned(function_.registers.size(), false);
    for (const std::vector<Access>& accesses : live_.accesses)
      for (const Access& access : accesses)
        if (!mentioned[access.reg]) {
          mentioned[access.reg] = true;
          graph_.order.push_back(access.reg);
        }
    for (uint32_t b = 0; b < flow_.blocks.size(); ++b) block(b);
    return std::move(graph_);
  }

 private:
  void block(uint32_t b) {
    const Block& range = flow_.blocks[b];
    std::vector<RegisterSet> in_flight;  // [statements of the block] behind each
    RegisterSet flying = live_.in_flight_in[b];
    for (uint32_t i = range.begin; i < range.end; ++i) {
      step_forward(function_.body[i], live_.accesses[i], flying);
      in_flight.push_back(flying);
    }
    RegisterSet live = live_.live_out[b];
    for (uint32_t i = range.end; i-- > range.begin;) {
      RegisterSet occupied = live;
      occupied.add_all(in_flight[i - range.begin]);
      statement(i, occupied);
      step_back(function_.body[i], live_.accesses[i], live);
    }
  }

  // What is written interferes with all that is held behind the statement, and with its sources and other results.
  void statement(uint32_t i, const RegisterSet& occupied) {
    const Statement& statement = function_.body[i];
    const bool is_move = is_register_move(function_, statement);
    for (const Access& access : live_.accesses[i]) {
      if (!access.written) continue;
      const RegisterSet& members = members_[static_cast<int>(class_of(function_.registers[access.reg].type))];
      occupied.for_each_common(members, [&](uint32_t other) { connect(access.reg, other); });
      for (const Access& other : live_.accesses[i])
        if (!is_move && members.has(other.reg)) connect(access.reg, other.reg);
    }
    if (is_move) {
      graph_.moves[statement.operands[0].reg].push_back(statement.operands[1].reg);
      graph_.moves[statement.operands[1].reg].push_back(statement.operands[0].reg);
    }
  }

  void connect(uint32_t a, uint32_t b) {
    if (a == b) return;
    graph_.neighbours[a].push_back(b);
    graph_.neighbours[b].push_back(a);
  }

  const Function& function_;
  const ControlFlow& flow_;
  const Liveness& live_;
  std::vector<RegisterSet> members_;  // [classes]
  Graph graph_;
};

// Greedy, in the order of the text: each register gets the rows of a mov's other side, or else the lowest free ones.
std::vector<uint32_t> color(const Graph& graph) {
  std::vector<uint32_t> colors(graph.neighbours.size(), kUnallocated);
  std::vector<uint32_t> taken_by;  // [colors] the register for which it was last found taken
  for (const uint32_t reg : graph.order) {
    for (const uint32_t neighbour : graph.neighbours[reg]) {
      const uint32_t taken = colors[neighbour];
      if (taken == kUnallocated) continue;
      if (taken >= taken_by.size()) taken_by.resize(taken + 1, kUnallocated);
      taken_by[taken] = reg;
    }
    const auto is_free = [&](uint32_t c) { return c >= taken_by.size() || taken_by[c] != reg; };
    uint32_t chosen = 0;
    while (!is_free(chosen)) ++chosen;
    for (const uint32_t other : graph.moves[reg])
      if (colors[other] != kUnallocated && is_free(colors[other])) chosen = colors[other];
    colors[reg] = chosen;
  }
  return colors;
}

}  // namespace

Allocation allocate_registers(const Module& module, const Function& function, const ControlFlow& flow) {
  const Liveness live = liveness(module, function, flow);
  const Graph graph = GraphBuilder(function, flow, live).build();
  const std::vector<uint32_t> colors = color(graph);

  std::array<uint32_t, kClasses> used{};
  for (const uint32_t reg : graph.order) {
    uint32_t& count = used[static_cast<int>(class_of(function.registers[reg].type))];
    count = std::max(count, colors[reg] + 1);
  }
  const auto [predicates, one_row, two_rows, four_rows] = used;
  Allocation allocation;
  allocation.slot.assign(function.registers.size(), kUnallocated);
  for (const uint32_t reg : graph.order) switch (class_of(function.registers[reg].type)) {
      case Class::predicate: allocation.slot[reg] = colors[reg]; break;
      case Class::four_rows: allocation.slot[reg] = 4 * colors[reg]; break;
      case Class::two_rows: allocation.slot[reg] = 4 * four_rows + 2 * colors[reg]; break;
      case Class::one_row: allocation.slot[reg] = 4 * four_rows + 2 * two_rows + colors[reg]; break;
    }
  allocation.rows = 4 * four_rows + 2 * two_rows + one_row;
  allocation.predicates = predicates;
  return allocation;
}

}  // namespace foretoken::ptx
