// Bulk copies under way, linear and of tensor boxes alike: stretches of global memory on one side, a contiguous area of
// shared memory, perhaps swizzled, on the other.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "../tensor/shared_operand.h"
#include "operation.h"
#include "pieces.h"
#include "tensor_box.h"

namespace foretoken::machine {

// The two sides of a copy. Offsets of the runs count from `shared`, before the swizzle.
struct BulkArea {
  uint64_t shared = 0;  // rank << 24 | offset
  uint32_t bytes = 0;
  uint32_t span = 0;  // of the swizzle, bytes
  std::vector<BoxRun> runs;
};

// f(offset from area.shared, address in global memory, bytes) for the pieces of a run that stay together.
template <class F>
void for_each_piece(const BulkArea& area, const BoxRun& run, F f);

// Faults unless every run inside the tensor is accessible.
void check_global(const Context& c, int lane, const BulkArea& area, const char* what);
// Faults unless the area lies in the block's shared memory at a multiple of `alignment`.
void check_shared(const Context& c, int lane, const Block& block, const BulkArea& area, uint32_t alignment,
                  const char* what);

// What a copy out of shared memory has still to read: until then its source must not change.
struct BulkRead {
  BulkRead(const Context& c, Block& block, const BulkArea& area);
  // Reads, once: what is there now must be what was there at the instruction.
  void finish();

  Context context;
  Block* block;
  uint64_t address;
  std::vector<uint8_t> data;
  std::vector<uint8_t> undefined;  // [data] 1 = undefined; empty if all is defined
  uint64_t operation = 0;
  bool finished = false;
};

// How elements arrive at their destination.
enum class Reduction : uint8_t { none, add, min, max, inc, dec, bit_and, bit_or, bit_xor };

struct BulkReduction {
  Reduction operation = Reduction::none;
  TensorElement element = TensorElement::u8;
};
// Whether there is such a reduction of such elements.
bool is_reduction(const BulkReduction& reduction);
// to[i] = to[i] ⊕ from[i]
void reduce(const BulkReduction& reduction, void* to, const void* from, uint32_t bytes);

// global → shared memory of one or more blocks; each block's mbarrier then counts the bytes.
std::unique_ptr<Operation> make_bulk_load(Context& c, int lane, BulkArea area, std::vector<Block*> blocks,
                                          uint64_t mbarrier);
// shared → global. `read` is the reading half, which wait_group.read finishes.
std::unique_ptr<Operation> make_bulk_store(Context& c, BulkArea area, BulkReduction reduction,
                                           std::shared_ptr<BulkRead> read);
// shared → shared of a block of the cluster.
std::unique_ptr<Operation> make_bulk_transfer(Context& c, int lane, uint64_t to, uint64_t mbarrier,
                                              BulkReduction reduction, std::shared_ptr<BulkRead> read);

// --- the template
template <class F>
void for_each_piece(const BulkArea& area, const BoxRun& run, F f) {
  if (area.span == 0) return f(run.shared_offset, run.global, run.bytes);
  const uint32_t base = static_cast<uint32_t>(area.shared);
  for (uint32_t done = 0; done < run.bytes;) {
    const uint32_t at = base + run.shared_offset + done, here = std::min(run.bytes - done, 16 - at % 16);
    f(swizzled(at, area.span) - base, run.global + done, here);
    done += here;
  }
}

}  // namespace foretoken::machine
