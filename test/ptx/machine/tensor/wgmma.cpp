// wgmma's handlers: four warps join in a product; registers and shared memory are lent to it until it is waited for.
#include <algorithm>
#include <cstring>

#include "../async/block_state.h"
#include "../async/operation.h"
#include "../async/warp_state.h"

namespace foretoken::machine {
namespace {

class ProductOperation final : public Operation {
 public:
  ProductOperation(const Context& c, std::shared_ptr<WarpgroupProduct> product)
      : Operation(c), product_(std::move(product)) {}
  void complete(Launch&) override {
    product_->compute(number);
    report_complete();
  }

 private:
  std::shared_ptr<WarpgroupProduct> product_;
};

bool assemble(Context& c) {
  if (!c.assemble("the other lanes at wgmma")) return false;
  if (c.lanes != kAllLanes) c.fault(FaultKind::usage, first_lane(c.lanes), "wgmma needs all 32 lanes of the warp");
  return true;
}

// A value that must be defined and the same in all lanes.
uint64_t uniform_value(Context& c, const Operand& operand, const char* what) {
  c.require_defined(operand, what);
  const uint64_t* values = c.source<uint64_t>(operand);
  for (int lane = 1; lane < kLanes; ++lane)
    if (values[lane] != values[0]) c.fault(FaultKind::usage, lane, std::string(what) + " differs between lanes");
  return values[0];
}

SharedOperand shared_operand(Context& c, const WgmmaPlan& plan, const Operand& descriptor, Major major, uint32_t extent,
                             const char* what) {
  SharedOperand operand{plan.element, major, decode_matrix_descriptor(uniform_value(c, descriptor, what)), extent};
  if (operand.matrix.base_offset) c.fault(FaultKind::unsupported, 0, "a matrix descriptor's base offset is not known");
  const SharedRange range = bounding_range(operand);
  const uint32_t end = kSharedBase + c.block->shared_bytes;
  const bool inside = range.end <= end || !reads_from(operand, {end, UINT32_MAX});
  if (operand.matrix.start >= kSharedBase && inside) return operand;
  c.fault(FaultKind::address, 0,
          std::string(what) + " describes bytes " + std::to_string(range.begin) + " … " + std::to_string(range.end) +
              " of shared memory, which ends at " + std::to_string(end));
}

// What the warp asks for, as if it were alone.
std::shared_ptr<WarpgroupProduct> describe(Context& c, const Instruction& i, const WgmmaPlan& plan) {
  auto product = std::make_shared<WarpgroupProduct>(c, plan);
  if (!plan.a_in_registers)
    product->a = shared_operand(c, plan, i[plan.a], plan.a_major, kWarpgroupRows, "the descriptor of A");
  product->b = shared_operand(c, plan, i[plan.b], plan.b_major, plan.columns, "the descriptor of B");
  c.require_defined(i[plan.scale_d], "whether wgmma adds to D");
  const Mask scale_d = c.predicate(i[plan.scale_d]);
  if (scale_d != 0 && scale_d != kAllLanes) c.fault(FaultKind::usage, 0, "scale-d differs between lanes");
  product->scale_d = scale_d != 0;
  return product;
}

bool same_operand(const SharedOperand& x, const SharedOperand& y) {
  return x.matrix.start == y.matrix.start && x.matrix.leading == y.matrix.leading &&
         x.matrix.stride == y.matrix.stride && x.matrix.span == y.matrix.span;
}

// The product of the warpgroup that is the warp's next.
std::shared_ptr<WarpgroupProduct> join_warpgroup(Context& c, const Instruction& i, const WgmmaPlan& plan) {
  BlockState& state = block_state(*c.block);
  const uint32_t number = c.warp->index / kWarpgroupWarps;
  if (kWarpgroupWarps * (number + 1) > c.block->warps.size())
    c.fault(FaultKind::usage, 0, "wgmma in a warp that belongs to no complete warpgroup");
  if (state.warpgroups.size() <= number) state.warpgroups.resize(number + 1);
  Warpgroup& group = state.warpgroups[number];
  auto asked = describe(c, i, plan);
  const uint64_t index = warp_state(*c.warp).products.issued++ - group.first;
  if (index == group.products.size()) {
    group.products.push_back(asked);
    state.reading.push_back(asked);
    return asked;
  }
  auto product = group.products[index];
  if (product->pc != asked->pc || product->scale_d != asked->scale_d || !same_operand(product->a, asked->a) ||
      !same_operand(product->b, asked->b))
    c.fault(FaultKind::usage, 0,
            "the warps of a warpgroup execute different wgmmas: another warp's is `" +
                c.launch->code->text(product->pc) + "` at " + c.launch->code->place(product->pc));
  return product;
}

void read_fragments(Context& c, const Instruction& i, const WgmmaPlan& plan, WarpgroupProduct::Fragments& fragments) {
  const uint32_t* registers[4];
  for (int r = 0; r < 4; ++r) {
    const Operand& operand = i[plan.a + r];
    registers[r] = c.source<uint32_t>(operand);
    std::copy_n(registers[r], kLanes, fragments.words[r].begin());
    for (int lane : each(c.undefined(operand))) fragments.undefined_rows |= 1u << (lane / 4 + 8 * (r % 2));
  }
  product_functions().spread_a(plan.element, static_cast<int>(plan.depth), registers, fragments.values);
}

// Lends the registers of D to the product: nobody may touch them until it is waited for.
std::shared_ptr<Accumulators> lend_accumulators(Context& c, const Instruction& i, const WgmmaPlan& plan) {
  WarpProducts& products = warp_state(*c.warp).products;
  for (const auto& lent : products.accumulators)
    if (lent->plan->accumulators == plan.accumulators) {
      ++lent->products;
      return lent;
    }
  for (const auto& lent : products.accumulators)
    for (uint32_t row : plan.accumulators)
      if (std::count(lent->plan->accumulators.begin(), lent->plan->accumulators.end(), row))
        c.fault(FaultKind::usage, 0, "D shares some of its registers with a wgmma under way");
  auto lent = std::make_shared<Accumulators>();
  lent->plan = &plan;
  lent->products = 1;
  for (size_t r = 0; r < plan.accumulators.size(); ++r) {
    const Mask undefined = c.undefined(i[static_cast<int>(r)]);
    if (undefined && lent->defined) {
      lent->defined = false;
      lent->undefined_lanes.assign(plan.accumulators.size(), 0);
    }
    if (undefined) lent->undefined_lanes[r] = undefined;
    c.warp->row_state[plan.accumulators[r]] = static_cast<uint8_t>(RowState::lent);
  }
  products.accumulators.push_back(lent);
  return lent;
}

std::string name_of(const Context& c, const WarpgroupProduct& product) {
  return "`" + c.launch->code->text(product.pc).substr(0, 70) + "…` at " + c.launch->code->place(product.pc);
}

// A's registers, lent as well, must hold what they held.
void check_fragments(Context& c, const WarpgroupProduct& product) {
  const auto& fragments = product.fragments[c.warp->index % kWarpgroupWarps];
  const Instruction& i = c.launch->code->instructions[product.pc];
  for (int r = 0; fragments && r < 4; ++r)
    if (std::memcmp(c.source<uint32_t>(i[product.plan.a + r]), fragments->words[static_cast<size_t>(r)].data(),
                    kRowBytes))
      c.fault(FaultKind::usage, 0,
              "a register of A of " + name_of(c, product) + " was written before it was waited for");
}

// The registers of D are the warp's again.
void return_accumulators(Context& c, const WarpgroupProduct& product, Accumulators& lent) {
  if (--lent.products) return;
  const WgmmaPlan& plan = *lent.plan;
  for (size_t r = 0; r < plan.accumulators.size(); ++r) {
    const uint32_t row = plan.accumulators[r];
    if (c.warp->row_state[row] != static_cast<uint8_t>(RowState::lent))
      c.fault(FaultKind::usage, 0,
              "an accumulator of " + name_of(c, product) + " was written before it was waited for");
    c.warp->row_state[row] = static_cast<uint8_t>(RowState::defined);
    const Operand operand{.kind = OperandKind::row, .bits = 32, .index = row};
    if (!lent.defined) c.set_undefined(operand, lent.undefined_lanes[r]);
  }
  std::erase_if(warp_state(*c.warp).products.accumulators, [&](const auto& one) { return one.get() == &lent; });
}

void start(Context& c, const std::shared_ptr<WarpgroupProduct>& product) {
  Warpgroup& group = block_state(*c.block).warpgroups[c.warp->index / kWarpgroupWarps];
  group.products.pop_front();
  ++group.first;
  auto operation = std::make_unique<ProductOperation>(c, product);
  operation->after = group.last_operation;
  const uint64_t number = c.launch->last_operation + 1;
  for (Context& context : product->contexts)
    context.observe(SyncEvent{.kind = SyncKind::agent_start, .lanes = kAllLanes, .object = number});
  product->operation = group.last_operation = number;
  c.launch->submit(std::move(operation));
  c.launch->wake({product.get(), 0}, *c.block);
}

}  // namespace

Outcome wgmma(Context& c, const Instruction& i) {
  if (!assemble(c)) return Outcome::repeat;
  const WgmmaPlan& plan = *static_cast<const WgmmaPlan*>(i.plan);
  if (!plan.unfenced.empty())
    c.fault(FaultKind::usage, 0,
            "no wgmma.fence between this wgmma and the write of one of its registers by " + plan.unfenced);
  auto product = join_warpgroup(c, i, plan);
  const uint32_t warp = c.warp->index % kWarpgroupWarps;
  product->contexts[warp] = c;
  product->contexts[warp].split = nullptr;
  if (plan.a_in_registers) {
    product->fragments[warp] = std::make_unique<WarpgroupProduct::Fragments>();
    read_fragments(c, i, plan, *product->fragments[warp]);
  }
  product->accumulators[warp] = lend_accumulators(c, i, plan);
  warp_state(*c.warp).products.open.push_back(product);
  product->joined |= 1u << warp;
  if (product->is_complete()) start(c, product);
  return Outcome::next;
}

Outcome wgmma_fence(Context& c, const Instruction&) { return assemble(c) ? Outcome::next : Outcome::repeat; }

Outcome wgmma_commit(Context& c, const Instruction&) {
  if (!assemble(c)) return Outcome::repeat;
  WarpProducts& products = warp_state(*c.warp).products;
  products.groups.push_back(std::move(products.open));
  products.open.clear();
  c.observe(SyncEvent{.kind = SyncKind::agent_commit, .lanes = c.lanes});
  return Outcome::next;
}

Outcome wgmma_wait(Context& c, const Instruction& i) {
  if (!assemble(c)) return Outcome::repeat;
  WarpProducts& products = warp_state(*c.warp).products;
  const size_t allowed = i.parameter[0];
  for (size_t group = 0; group + allowed < products.groups.size(); ++group)
    for (const auto& product : products.groups[group])
      if (!product->is_complete()) {
        c.sleep({product.get(), 0}, "the other warps of the warpgroup to issue their wgmma");
        return Outcome::repeat;
      }
  ProductList& reading = block_state(*c.block).reading;
  while (products.groups.size() > allowed) {
    for (const auto& product : products.groups.front()) {
      join(c, c.lanes, product->operation);
      if (!product->waited_for) {
        product->waited_for = true;
        std::erase(reading, product);
      }
      check_fragments(c, *product);
      return_accumulators(c, *product, *product->accumulators[c.warp->index % kWarpgroupWarps]);
    }
    products.groups.pop_front();
  }
  return Outcome::next;
}

}  // namespace foretoken::machine
