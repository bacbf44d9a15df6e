#include "control_flow.h"

#include <algorithm>
#include <functional>

namespace foretoken::ptx {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

bool never_returns(const Module& module, const Statement& statement) {
  if (statement.mnemonic == "ret" || statement.mnemonic == "exit" || statement.mnemonic == "trap") return true;
  if (statement.mnemonic != "call") return false;
  const Operand& callee = statement.operands[1];
  return callee.kind == OperandKind::symbol && module.functions[callee.index]->is_noreturn;
}

std::vector<uint32_t> branch_targets(const Statement& statement) {
  if (statement.mnemonic == "bra") return {statement.operands[0].target};
  std::vector<uint32_t> targets;
  if (statement.mnemonic == "brx")
    for (const Operand& label : statement.operands[1].elements) targets.push_back(label.target);
  return targets;
}

// Statements after which execution may go on: elsewhere and, if `falls_through`, behind.
struct Exit {
  std::vector<uint32_t> targets;
  bool falls_through = true;
  bool ends_block() const { return !targets.empty() || !falls_through; }
};

Exit exit_of(const Module& module, const Statement& statement) {
  Exit exit;
  exit.targets = branch_targets(statement);
  const bool always_leaves = !exit.targets.empty() || never_returns(module, statement);
  exit.falls_through = !always_leaves || statement.guard.has_value();
  return exit;
}

void make_blocks(const Module& module, const Function& function, ControlFlow& flow) {
  const auto count = static_cast<uint32_t>(function.body.size());
  std::vector<bool> begins(count + 1, false);
  std::vector<Exit> exits(count);
  begins[0] = begins[count] = true;
  for (uint32_t i = 0; i < count; ++i) {
    exits[i] = exit_of(module, function.body[i]);
    for (const uint32_t target : exits[i].targets) begins[target] = true;
    const bool guarded_leave = function.body[i].guard && never_returns(module, function.body[i]);
    if (exits[i].ends_block() || guarded_leave) begins[i + 1] = true;
  }
  flow.block_of.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    if (begins[i]) flow.blocks.push_back({i, i, {}, {}});
    flow.blocks.back().end = i + 1;
    flow.block_of[i] = static_cast<uint32_t>(flow.blocks.size()) - 1;
  }
  for (uint32_t b = 0; b < flow.blocks.size(); ++b) {
    const Exit& exit = exits[flow.blocks[b].end - 1];
    const auto link = [&](uint32_t statement) {
      std::vector<uint32_t>& successors = flow.blocks[b].successors;
      const uint32_t to = flow.block_of[statement];
      if (std::find(successors.begin(), successors.end(), to) != successors.end()) return;
      successors.push_back(to);
      flow.blocks[to].predecessors.push_back(b);
    };
    if (exit.falls_through) link(flow.blocks[b].end);
    for (const uint32_t target : exit.targets) link(target);
  }
}

// Depth first from `root` along `next`; appends each block reached when all behind it has been reached.
void post_order(uint32_t root, std::vector<bool>& reached, std::vector<uint32_t>& order,
                const std::function<const std::vector<uint32_t>&(uint32_t)>& next) {
  if (reached[root]) return;
  struct Visit {
    uint32_t block;
    size_t edge = 0;
  };
  std::vector<Visit> stack = {{root}};
  reached[root] = true;
  while (!stack.empty()) {
    Visit& visit = stack.back();
    const std::vector<uint32_t>& edges = next(visit.block);
    if (visit.edge == edges.size()) {
      order.push_back(visit.block);
      stack.pop_back();
    } else if (const uint32_t to = edges[visit.edge++]; !reached[to]) {
      reached[to] = true;
      stack.push_back({to});
    }
  }
}

// [blocks] immediate post-dominator; `blocks.size()` stands for leaving the function, kNone for never leaving it.
// Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm, on the reversed graph.
std::vector<uint32_t> immediate_post_dominators(const std::vector<Block>& blocks) {
  const auto leaving = static_cast<uint32_t>(blocks.size());
  std::vector<uint32_t> leaves;
  for (uint32_t b = 0; b < leaving; ++b)
    if (blocks[b].successors.empty()) leaves.push_back(b);
  const auto backward = [&](uint32_t b) -> const std::vector<uint32_t>& {
    return b == leaving ? leaves : blocks[b].predecessors;
  };
  std::vector<bool> reached(leaving + 1, false);
  std::vector<uint32_t> order;
  post_order(leaving, reached, order, backward);
  std::vector<uint32_t> rank(leaving + 1, 0);
  for (uint32_t i = 0; i < order.size(); ++i) rank[order[i]] = i;

  std::vector<uint32_t> dominator(leaving + 1, kNone);
  dominator[leaving] = leaving;
  const auto common = [&](uint32_t a, uint32_t b) {
    while (a != b) {
      uint32_t& deeper = rank[a] < rank[b] ? a : b;
      deeper = dominator[deeper];
    }
    return a;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (auto b = order.rbegin(); b != order.rend(); ++b) {
      if (*b == leaving) continue;
      uint32_t found = blocks[*b].successors.empty() ? leaving : kNone;
      for (const uint32_t successor : blocks[*b].successors)
        if (dominator[successor] != kNone) found = found == kNone ? successor : common(found, successor);
      changed |= dominator[*b] != found;
      dominator[*b] = found;
    }
  }
  dominator.pop_back();
  return dominator;
}

// A block that is nothing but `ret`, `exit` or `trap`: to meet there is not to meet.
bool only_leaves(const Block& block) { return block.successors.empty() && block.end == block.begin + 1; }

// Where most of the ways from `block` can still meet, nearest first, if some of them leave the function.
uint32_t nearest_common_block(const std::vector<Block>& blocks, uint32_t block) {
  const std::vector<uint32_t>& ways = blocks[block].successors;
  const auto forward = [&](uint32_t b) -> const std::vector<uint32_t>& { return blocks[b].successors; };
  std::vector<uint32_t> count(blocks.size(), 0);
  uint32_t most = 0;
  for (const uint32_t way : ways) {
    std::vector<bool> reached(blocks.size(), false);
    std::vector<uint32_t> order;
    reached[block] = true;  // not through the branch itself: around a loop everything is common
    post_order(way, reached, order, forward);
    for (const uint32_t b : order)
      if (!only_leaves(blocks[b])) most = std::max(most, ++count[b]);
  }
  if (most < 2) return kNone;
  std::vector<bool> reached(blocks.size(), false);
  std::vector<uint32_t> order;
  post_order(block, reached, order, forward);
  const auto nearest = std::find_if(order.rbegin(), order.rend(), [&](uint32_t b) { return count[b] == most; });
  return *nearest;
}

}  // namespace

ControlFlow control_flow(const Module& module, const Function& function) {
  ControlFlow flow;
  make_blocks(module, function, flow);
  const std::vector<uint32_t> dominators = immediate_post_dominators(flow.blocks);
  for (uint32_t b = 0; b < flow.blocks.size(); ++b) {
    const bool is_block = dominators[b] < flow.blocks.size();
    uint32_t meeting = is_block ? dominators[b] : kNone;
    if (flow.blocks[b].successors.size() > 1 && (!is_block || only_leaves(flow.blocks[meeting])))
      if (const uint32_t nearest = nearest_common_block(flow.blocks, b); nearest != kNone) meeting = nearest;
    flow.meeting_point.push_back(meeting == kNone ? kNoMeetingPoint : flow.blocks[meeting].begin);
  }
  return flow;
}

}  // namespace foretoken::ptx
