#include "warpgroup_product.h"

#include <algorithm>
#include <cstring>

#include "accumulation.h"
#include "half_pairs.h"

namespace foretoken::machine {
namespace {

constexpr uint32_t kChunk = 16;  // bytes

// Rows or columns of an operand that hold an undefined byte.
struct UndefinedLines {
  bool any = false;
  std::array<bool, kMaxTiles * kTileColumns> at{};
};

UndefinedLines undefined_lines(const SharedOperand& operand, const Memory& shared) {
  UndefinedLines result;
  const SharedRange range = bounding_range(operand);
  const uint64_t base = shared.base(), end = std::min<uint64_t>(base + range.end, base + shared.size());
  if (shared.first_undefined(base + range.begin, end - base - range.begin) == end) return result;
  const uint32_t size = static_cast<uint32_t>(element_bytes(operand.element));
  for (uint32_t line = 0; line < operand.lines(); ++line)
    for (uint32_t chunk = 0; chunk < operand.chunks(); ++chunk) {
      const uint64_t bytes = shared.undefined(base + chunk_address(operand.matrix, operand.major, line, chunk), kChunk);
      for (uint32_t byte = 0; bytes >> byte; ++byte)
        if (bytes >> byte & 1) {
          result.at[operand.major == Major::k ? line : (chunk * kChunk + byte) / size] = true;
          result.any = true;
        }
    }
  return result;
}

// Lanes of accumulator register r that an undefined row of A (bit per row of the warp) or column of B reaches.
Mask reached_lanes(const WgmmaPlan& plan, uint32_t r, uint32_t rows, const UndefinedLines& columns) {
  Mask reached = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t tile = plan.half ? r / 2 : r / 4, lower = plan.half ? r % 2 : r % 4 / 2;
    const uint32_t column = kTileColumns * tile + lane % 4 * 2;
    const bool by_column = plan.half ? columns.at[column] || columns.at[column + 1] : columns.at[column + r % 2];
    if (by_column || rows >> (lane / 4 + 8 * lower) & 1) reached |= 1u << lane;
  }
  return reached;
}

void propagate(const WarpgroupProduct& product, Accumulators& d, uint32_t rows, const UndefinedLines& columns) {
  const bool clean = d.defined || !product.scale_d;
  if (clean && rows == 0 && !columns.any) {
    d.defined = true;
    return;
  }
  if (clean) d.undefined_lanes.assign(product.plan.accumulators.size(), 0);
  d.defined = false;
  for (uint32_t r = 0; r < d.undefined_lanes.size(); ++r)
    d.undefined_lanes[r] |= reached_lanes(product.plan, r, rows, columns);
}

// The operand's bytes, in stretches of a line: an event for every 32.
void observe_operand(Context& c, const SharedOperand& operand, const Memory& shared, uint64_t agent) {
  const uint32_t stretch = operand.matrix.span == 0 ? kChunk : operand.major == Major::k ? 32 : operand.matrix.span;
  uint64_t addresses[kLanes];
  uint32_t count = 0;
  auto flush = [&] {
    if (count == 0) return;
    c.observe(MemoryEvent{.space = Space::shared,
                          .proxy = Proxy::asynchronous,
                          .lanes = count == kLanes ? kAllLanes : (1u << count) - 1,
                          .addresses = addresses,
                          .bytes = stretch,
                          .agent = agent});
    count = 0;
  };
  for (uint32_t line = 0; line < operand.lines(); ++line)
    for (uint32_t chunk = 0; chunk < operand.chunks(); chunk += stretch / kChunk) {
      const uint32_t address = chunk_address(operand.matrix, operand.major, line, chunk);
      addresses[count++] = shared.base() + address / stretch * stretch;
      if (count == kLanes) flush();
    }
  flush();
}

}  // namespace

void WarpgroupProduct::compute(uint64_t agent) {
  const Memory& shared = *block->shared;
  const uint8_t* cells = shared.cell(shared.base());
  Launch& launch = *contexts[0].launch;
  if (launch.observer) {
    if (!plan.a_in_registers) observe_operand(contexts[0], a, shared, agent);
    observe_operand(contexts[0], b, shared, agent);
  }
  static thread_local SpreadB spread_b;
  static thread_local SpreadA spread_a;
  spread_shared_b(b, cells, spread_b);
  const UndefinedLines columns = undefined_lines(b, shared);
  UndefinedLines rows;
  if (!plan.a_in_registers) rows = undefined_lines(a, shared);
  for (uint32_t warp = 0; warp < kWarpgroupWarps; ++warp) {
    uint32_t undefined_rows = 0;
    if (plan.a_in_registers) {
      spread_a = fragments[warp]->values;
      undefined_rows = fragments[warp]->undefined_rows;
    } else {
      spread_shared_a(a, cells, kProductRows * warp, spread_a);
      for (uint32_t row = 0; rows.any && row < kProductRows; ++row)
        undefined_rows |= static_cast<uint32_t>(rows.at[kProductRows * warp + row]) << row;
    }
    if (plan.negated) negate(spread_a);
    compute_warp(warp, spread_a, spread_b);
    propagate(*this, *accumulators[warp], undefined_rows, columns);
  }
  launch.counters.tensor_flop += 2ull * kWarpgroupRows * plan.columns * plan.depth;
}

void WarpgroupProduct::compute_warp(uint32_t warp, const SpreadA& spread_a, const SpreadB& spread_b) const {
  const Context& c = contexts[warp];
  const uint32_t tiles = plan.columns / kTileColumns, registers = static_cast<uint32_t>(plan.accumulators.size());
  alignas(64) float sums[kTileColumns * kMaxTiles / 2][kLanes];  // of f16
  float* d[kTileColumns * kMaxTiles / 2];
  auto row = [&](uint32_t r) { return c.warp->rows + plan.accumulators[r] * kRowBytes; };
  if (!scale_d)
    for (uint32_t r = 0; r < registers; ++r) std::memset(row(r), 0, kRowBytes);
  for (uint32_t r = 0; r < registers; ++r) {
    if (plan.half) {
      unpack_pairs(reinterpret_cast<const uint32_t*>(row(r)), sums[2 * r], sums[2 * r + 1]);
      d[2 * r] = sums[2 * r];
      d[2 * r + 1] = sums[2 * r + 1];
    } else {
      d[r] = reinterpret_cast<float*>(row(r));
    }
  }
  multiply_function(accumulation_of(*c.launch))(spread_a, spread_b.tiles, static_cast<int>(plan.depth),
                                                static_cast<int>(tiles), d);
  for (uint32_t r = 0; plan.half && r < registers; ++r)
    pack_pairs(sums[2 * r], sums[2 * r + 1], reinterpret_cast<uint32_t*>(row(r)));
}

}  // namespace foretoken::machine
