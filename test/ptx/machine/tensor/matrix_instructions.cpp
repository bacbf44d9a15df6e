// ldmatrix, stmatrix, movmatrix: matrix_move.h with addresses, definedness and counters around it.
#include <cstring>

#include "../access.h"
#include "matrix_move.h"
#include "mma.h"

namespace foretoken::machine {
namespace {

constexpr uint32_t kRowOfMatrix = 16;  // bytes
constexpr int kMatrixRows = 8;

enum Parameter { kCount, kTransposed };

bool assemble_warp(Context& c, const char* waits_for, const char* name) {
  if (!c.assemble(waits_for)) return false;
  if (c.lanes != kAllLanes)
    c.fault(FaultKind::usage, first_lane(c.lanes), std::string(name) + " needs all 32 lanes of the warp");
  return true;
}

// Lane l gives the address of row l: of the first eight lanes for one matrix, and so on.
void row_addresses(Context& c, const Operand& address, Mask lanes, uint64_t* addresses) {
  const Mask all = c.lanes;
  c.lanes = lanes;
  c.addresses(address, addresses);
  c.lanes = all;
}

Mask address_lanes(uint32_t count) { return count == 4 ? kAllLanes : (1u << (kMatrixRows * count)) - 1; }

// Shadows of elements: all bits of those with an undefined byte.
void spell_row(uint64_t undefined_bytes, uint16_t* row) {
  for (int i = 0; i < 8; ++i) row[i] = undefined_bytes >> (2 * i) & 3 ? 0xffff : 0;
}

Outcome ldmatrix(Context& c, const Instruction& i) {
  if (!assemble_warp(c, "the other lanes at ldmatrix", "ldmatrix")) return Outcome::repeat;
  const uint32_t count = i.parameter[kCount];
  const bool transposed = i.parameter[kTransposed];
  const Mask lanes = address_lanes(count);
  uint64_t addresses[kLanes];
  row_addresses(c, i[static_cast<int>(count)], lanes, addresses);
  count_shared(c.launch->counters, lanes, addresses, kRowOfMatrix);
  c.observe(MemoryEvent{.space = Space::shared, .lanes = lanes, .addresses = addresses, .bytes = kRowOfMatrix});
  uint16_t rows[kLanes][8];
  uint64_t undefined[kLanes], any = 0;
  for (int lane : each(lanes)) {
    undefined[lane] = read_bytes(c, shared_memory(c, lane, addresses[lane]), lane, addresses[lane], kRowOfMatrix,
                                 rows[lane], "ldmatrix");
    any |= undefined[lane];
  }
  for (uint32_t matrix = 0; matrix < count; ++matrix) {
    uint32_t fragment[kLanes];
    load_matrix(rows + kMatrixRows * matrix, transposed, fragment);
    const Operand& target = i[static_cast<int>(matrix)];
    c.write(target, fragment);
    if (!any) continue;
    uint16_t shadow_rows[kMatrixRows][8];
    for (uint32_t r = 0; r < kMatrixRows; ++r) spell_row(undefined[kMatrixRows * matrix + r], shadow_rows[r]);
    load_matrix(shadow_rows, transposed, fragment);
    c.set_shadow(target, fragment);
  }
  return Outcome::next;
}

Outcome stmatrix(Context& c, const Instruction& i) {
  if (!assemble_warp(c, "the other lanes at stmatrix", "stmatrix")) return Outcome::repeat;
  const uint32_t count = i.parameter[kCount];
  const bool transposed = i.parameter[kTransposed];
  const Mask lanes = address_lanes(count);
  uint64_t addresses[kLanes];
  row_addresses(c, i[0], lanes, addresses);
  count_shared(c.launch->counters, lanes, addresses, kRowOfMatrix);
  c.observe(MemoryEvent{.space = Space::shared,
                        .kind = AccessKind::write,
                        .lanes = lanes,
                        .addresses = addresses,
                        .bytes = kRowOfMatrix});
  for (uint32_t matrix = 0; matrix < count; ++matrix) {
    const Operand& source = i[1 + static_cast<int>(matrix)];
    uint16_t rows[kMatrixRows][8], shadow_rows[kMatrixRows][8] = {};
    store_matrix(c.source<uint32_t>(source), transposed, rows);
    const bool defined = c.undefined(source) == 0;
    if (!defined) store_matrix(c.shadow<uint32_t>(source), transposed, shadow_rows);
    for (uint32_t r = 0; r < kMatrixRows; ++r) {
      const int lane = static_cast<int>(kMatrixRows * matrix + r);
      uint64_t undefined = 0;
      if (!defined)
        for (int k = 0; k < 8; ++k) {
          if (shadow_rows[r][k] & 0x00ff) undefined |= 1ull << (2 * k);
          if (shadow_rows[r][k] & 0xff00) undefined |= 2ull << (2 * k);
        }
      write_bytes(c, shared_memory(c, lane, addresses[lane]), lane, addresses[lane], kRowOfMatrix, rows[r], undefined,
                  "stmatrix");
    }
  }
  return Outcome::next;
}

Outcome movmatrix(Context& c, const Instruction& i) {
  if (!assemble_warp(c, "the other lanes at movmatrix", "movmatrix")) return Outcome::repeat;
  uint16_t rows[kMatrixRows][8];
  uint32_t fragment[kLanes], shadow[kLanes];
  store_matrix(c.source<uint32_t>(i[1]), false, rows);
  load_matrix(rows, true, fragment);
  const bool defined = c.undefined(i[1]) == 0;
  if (!defined) {
    store_matrix(c.shadow<uint32_t>(i[1]), false, rows);
    load_matrix(rows, true, shadow);
  }
  c.write(i[0], fragment);
  if (!defined) c.set_shadow(i[0], shadow);
  return Outcome::next;
}

// The modifiers that ldmatrix and stmatrix share.
void select_matrix_access(Form& form) {
  form.need("sync");
  form.need("aligned");
  form.need("m8n8");
  const int count = form.take_one({"x1", "x2", "x4"});
  if (count < 0) form.unknown();
  form.instruction.parameter[kCount] = 1u << count;
  form.instruction.parameter[kTransposed] = form.take("trans");
  if (form.take_one({"shared", "shared::cta"}) < 0) form.refuse("only .shared is known");
  form.need("b16");
  form.expect_operands(2, 2);
  form.constants(ptx::Type::b32);
  form.instruction.category = Class::matrix_load;
  if (form.instruction.operand_count != 1 + form.instruction.parameter[kCount])
    form.refuse("the operands do not fit the count");
}

}  // namespace

void select_ldmatrix(Form& form) {
  select_matrix_access(form);
  form.instruction.results = static_cast<uint8_t>(form.instruction.parameter[kCount]);
  form.use(ldmatrix);
}

void select_stmatrix(Form& form) {
  select_matrix_access(form);
  form.instruction.results = 0;
  form.use(stmatrix);
}

void select_movmatrix(Form& form) {
  form.need("sync");
  form.need("aligned");
  form.need("m8n8");
  form.need("trans");
  form.need("b16");
  form.expect_operands(2, 2);
  form.instruction.category = Class::matrix_load;
  form.use(movmatrix);
}

}  // namespace foretoken::machine
