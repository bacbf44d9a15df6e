#include "wgmma_plan.h"

#include <algorithm>
#include <set>

#include "../code.h"
#include "ptx/accesses.h"

namespace foretoken::machine {
namespace {

bool writes_any(const Form& form, const ptx::Statement& statement, const std::set<uint32_t>& registers) {
  const auto accesses = ptx::register_accesses(*form.code.program.module, *form.plan.function, statement);
  return std::any_of(accesses.begin(), accesses.end(),
                     [&](const ptx::Access& access) { return access.written && registers.count(access.reg); });
}

// A statement from which a path leads to this wgmma that writes one of the registers and meets no wgmma.fence after:
// the rule "wgmma.fence before the first wgmma and whenever registers are changed", decided on the program's text.
const ptx::Statement* unfenced_write(const Form& form, const std::set<uint32_t>& registers) {
  const ptx::Function& function = *form.plan.function;
  const ptx::ControlFlow& flow = form.plan.flow;
  const uint32_t start = static_cast<uint32_t>(&form.statement - function.body.data());
  std::vector<bool> visited(flow.blocks.size());
  std::vector<std::pair<uint32_t, uint32_t>> open = {{flow.block_of[start], start}};  // block, end of what to look at
  while (!open.empty()) {
    auto [block, end] = open.back();
    open.pop_back();
    bool fenced = false;
    while (!fenced && end > flow.blocks[block].begin) {
      const ptx::Statement& statement = function.body[--end];
      if (statement.mnemonic == "wgmma")
        fenced = statement.has("fence");
      else if (writes_any(form, statement, registers))
        return &statement;
    }
    if (fenced) continue;
    for (uint32_t before : flow.blocks[block].predecessors) {
      if (visited[before]) continue;
      visited[before] = true;
      open.push_back({before, flow.blocks[before].end});
    }
  }
  return nullptr;
}

void add_registers(const ptx::Operand& vector, std::set<uint32_t>& registers) {
  for (const ptx::Operand& element : vector.elements)
    if (element.kind == ptx::OperandKind::reg) registers.insert(element.reg);
}

// m64nNk16: N a multiple of 8 up to 256.
uint32_t take_columns(Form& form, uint32_t depth) {
  for (uint32_t columns = 8; columns <= kMaxTiles * kTileColumns; columns += 8)
    if (form.take("m64n" + std::to_string(columns) + "k" + std::to_string(depth))) return columns;
  form.refuse("no such shape");
}

int64_t immediate(const Form& form, int operand) {
  if (form.operand(operand).kind != ptx::OperandKind::integer) form.refuse("a number is wanted");
  return static_cast<int64_t>(form.operand(operand).bits);
}

bool take_sign(const Form& form, int operand) {
  const int64_t scale = immediate(form, operand);
  if (scale != 1 && scale != -1) form.refuse("scales of A and B are 1 or -1");
  return scale < 0;
}

Major take_major(const Form& form, int operand) { return immediate(form, operand) ? Major::mn : Major::k; }

void take_types(Form& form, WgmmaPlan& plan) {
  const bool tf32 = form.statement.has("tf32");
  plan.depth = tf32 ? 8 : 16;
  plan.columns = take_columns(form, plan.depth);
  const ptx::Type d = form.take_type();
  plan.half = d == ptx::Type::f16;
  if (d != ptx::Type::f32 && !plan.half) form.unknown();
  if (tf32) {
    form.need("tf32");
    form.need("tf32");
    plan.element = Element::kTf32;
  } else {
    const ptx::Type a = form.take_type();
    if (form.take_type() != a || (a != ptx::Type::bf16 && a != ptx::Type::f16)) form.unknown();
    plan.element = a == ptx::Type::bf16 ? Element::kBf16 : Element::kF16;
  }
  if (plan.half && plan.element != Element::kF16) form.unknown();
}

// D, A or its descriptor, B's descriptor, scale-d, imm-scale-a, imm-scale-b{, imm-trans-a}{, imm-trans-b}
void take_operands(Form& form, WgmmaPlan& plan) {
  plan.a_in_registers = form.operand(1).kind == ptx::OperandKind::vector;
  const int transposes = plan.element == Element::kTf32 ? 0 : plan.a_in_registers ? 1 : 2;
  form.expect_operands(6 + transposes, 6 + transposes);
  form.constant(1, ptx::Type::b64);
  form.constant(2, ptx::Type::b64);
  form.constant(3, ptx::Type::pred);
  plan.a = form.flat(1);
  plan.b = form.flat(2);
  plan.scale_d = form.flat(3);
  plan.negated = take_sign(form, 4) != take_sign(form, 5);
  if (transposes == 2) plan.a_major = take_major(form, 6);
  if (transposes) plan.b_major = take_major(form, 5 + transposes);

  const uint32_t registers = plan.columns / (plan.half ? 4 : 2);
  if (form.operand(0).elements.size() != registers || (plan.a_in_registers && form.operand(1).elements.size() != 4))
    form.refuse("the operands do not fit the shape");
  for (const ptx::Operand& element : form.operand(0).elements) {
    if (element.kind != ptx::OperandKind::reg) form.refuse("D must be registers");
    plan.accumulators.push_back(form.instruction[static_cast<int>(plan.accumulators.size())].index);
  }
}

void select_product(Form& form) {
  WgmmaPlan plan;
  take_types(form, plan);
  take_operands(form, plan);
  std::set<uint32_t> registers;
  add_registers(form.operand(0), registers);
  if (plan.a_in_registers) add_registers(form.operand(1), registers);
  if (const ptx::Statement* write = unfenced_write(form, registers)) {
    const ptx::Module& module = *form.code.program.module;
    plan.unfenced =
        "`" + ptx::statement_text(module, *write) + "` at " + ptx::describe_location(module, write->location);
  }
  form.instruction.category = Class::tensor;
  form.instruction.results = static_cast<uint8_t>(plan.accumulators.size());
  form.instruction.plan = form.keep(std::move(plan));
  form.use(wgmma);
}

}  // namespace

void select_wgmma(Form& form) {
  form.instruction.category = Class::asynchronous;
  form.instruction.results = 0;
  form.need("sync");
  form.need("aligned");
  if (form.take("mma_async")) return select_product(form);
  if (form.take("fence")) return form.use(wgmma_fence);
  if (form.take("commit_group")) return form.use(wgmma_commit);
  form.need("wait_group");
  form.instruction.parameter[0] = static_cast<uint32_t>(immediate(form, 0));
  form.use(wgmma_wait);
}

}  // namespace foretoken::machine
