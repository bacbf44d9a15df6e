#include "mma.h"

#include <cstring>

#include "../machine.h"
#include "accumulation.h"
#include "half_pairs.h"
#include "product.h"

namespace foretoken::machine {
namespace {

constexpr int kAccumulators = 4;  // fp32 registers of a tile

// Flat numbers of the operands' first registers.
struct MmaPlan {
  Element element = Element::kBf16;
  int depth = 0;
  bool half = false;  // D and C in f16
  int a = 0, b = 0, c = 0, a_registers = 0, b_registers = 0, d_registers = 0;
};

// Lanes of D that an undefined element of A, B or C reaches: A its row, B its column.
void propagate_undefined(Context& c, const Instruction& i, const MmaPlan& plan, const Mask* c_undefined) {
  uint32_t rows = 0, columns = 0;
  for (int r = 0; r < plan.a_registers; ++r)
    for (int lane : each(c.undefined(i[plan.a + r]))) rows |= 1u << (lane / 4 + 8 * (r % 2));
  for (int r = 0; r < plan.b_registers; ++r)
    for (int lane : each(c.undefined(i[plan.b + r]))) columns |= 1u << (lane / 4);
  for (int r = 0; r < plan.d_registers; ++r) {
    Mask undefined = c_undefined[r];
    for (int lane = 0; lane < kLanes; ++lane) {
      int row = lane / 4 + 8 * (plan.half ? r : r / 2), column = lane % 4 * 2;
      uint32_t reached = plan.half ? columns >> column & 3 : columns >> (column + r % 2) & 1;
      if (rows >> row & 1 || reached) undefined |= 1u << lane;
    }
    c.set_undefined(i[r], undefined);
  }
}

Outcome mma(Context& c, const Instruction& i) {
  if (!c.assemble("the other lanes at mma")) return Outcome::repeat;
  if (c.lanes != kAllLanes) c.fault(FaultKind::usage, first_lane(c.lanes), "mma needs all 32 lanes of the warp");
  const MmaPlan& plan = *static_cast<const MmaPlan*>(i.plan);
  const ProductFunctions& product = product_functions();

  bool defined = true;
  for (int k = plan.d_registers; k < plan.c + plan.d_registers; ++k)
    defined = defined && c.state(i[k]) == RowState::defined;
  Mask c_undefined[kAccumulators] = {};
  if (!defined)
    for (int r = 0; r < plan.d_registers; ++r) c_undefined[r] = c.undefined(i[plan.c + r]);

  SpreadA a;
  alignas(64) SpreadTile b;
  const uint32_t *a_registers[4], *b_registers[2];
  for (int r = 0; r < plan.a_registers; ++r) a_registers[r] = c.source<uint32_t>(i[plan.a + r]);
  for (int r = 0; r < plan.b_registers; ++r) b_registers[r] = c.source<uint32_t>(i[plan.b + r]);
  product.spread_a(plan.element, plan.depth, a_registers, a);
  product.spread_b(plan.element, plan.depth, b_registers, b);

  alignas(64) float sums[kAccumulators][kLanes];
  float* accumulators[] = {sums[0], sums[1], sums[2], sums[3]};
  for (int r = 0; r < plan.d_registers; ++r) {
    if (plan.half)
      unpack_pairs(c.source<uint32_t>(i[plan.c + r]), sums[2 * r], sums[2 * r + 1]);
    else
      std::memcpy(sums[r], c.source<float>(i[plan.c + r]), kRowBytes);
  }
  multiply_function(accumulation_of(*c.launch))(a, &b, plan.depth, 1, accumulators);
  for (int r = 0; r < plan.d_registers; ++r) {
    if (plan.half)
      pack_pairs(sums[2 * r], sums[2 * r + 1], c.target<uint32_t>(i[r]));
    else
      std::memcpy(c.target<float>(i[r]), sums[r], kRowBytes);
    if (defined) c.set_defined(i[r]);
  }
  if (!defined) propagate_undefined(c, i, plan, c_undefined);
  c.launch->counters.tensor_flop += 2ull * kProductRows * kTileColumns * static_cast<uint64_t>(plan.depth);
  return Outcome::next;
}

}  // namespace

void select_mma(Form& form) {
  form.need("sync");
  form.need("aligned");
  MmaPlan plan;
  const int shape = form.take_one({"m16n8k16", "m16n8k8", "m16n8k4"});
  if (shape < 0) form.unknown();
  plan.depth = 16 >> shape;
  form.need("row");
  form.need("col");
  const ptx::Type d = form.take_type();
  if (form.take("tf32")) {
    form.need("tf32");
    plan.element = Element::kTf32;
  } else {
    const ptx::Type a = form.take_type();
    if (form.take_type() != a || (a != ptx::Type::bf16 && a != ptx::Type::f16)) form.unknown();
    plan.element = a == ptx::Type::bf16 ? Element::kBf16 : Element::kF16;
  }
  plan.half = d == ptx::Type::f16;
  const bool is_tf32 = plan.element == Element::kTf32;
  if (form.take_type() != d || (d != ptx::Type::f32 && !plan.half)) form.unknown();
  if (plan.half && plan.element != Element::kF16) form.unknown();
  if (is_tf32 ? plan.depth == 16 : plan.depth == 4) form.unknown();

  form.expect_operands(4, 4);
  form.constant(3, plan.half ? ptx::Type::b32 : ptx::Type::f32);
  plan.d_registers = plan.half ? 2 : kAccumulators;
  plan.b_registers = plan.depth / (is_tf32 ? 4 : 8);
  plan.a_registers = 2 * plan.b_registers;
  plan.a = form.flat(1);
  plan.b = form.flat(2);
  plan.c = form.flat(3);
  if (plan.a != plan.d_registers || plan.b != plan.a + plan.a_registers || plan.c != plan.b + plan.b_registers ||
      form.instruction.operand_count != plan.c + plan.d_registers)
    form.refuse("the operands do not fit the shape");
  form.instruction.category = Class::tensor;
  form.instruction.results = static_cast<uint8_t>(plan.d_registers);
  form.instruction.plan = form.keep(plan);
  form.use(mma);
}

}  // namespace foretoken::machine
