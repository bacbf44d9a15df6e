#include "bulk_copy.h"

#include <cstring>
#include <sstream>

#include "block_state.h"
#include "mbarrier_memory.h"

namespace foretoken::machine {
namespace {

void check_range(const Context& c, int lane, const Memory& memory, uint64_t address, uint64_t bytes, const char* what) {
  const uint64_t bad = memory.first_inaccessible(address, bytes);
  if (bad == address + bytes) return;
  std::ostringstream text;
  text << what << " of " << bytes << " bytes at 0x" << std::hex << address << std::dec
       << " out of bounds: " << memory.describe(bad);
  c.fault(FaultKind::address, lane, text.str());
}

uint64_t mbarrier_in(const Block& block, uint64_t address) {
  return block.shared->base() + (address & ((1u << kSharedRankShift) - 1));
}

// Bytes have come to an mbarrier of the block.
void count_bytes(Operation& operation, int lane, Block& block, uint64_t mbarrier, uint32_t bytes) {
  Context& c = operation.context;
  if (block.exited) c.fault(FaultKind::usage, lane, "a bulk copy arrives in a block that has exited");
  c.observe(SyncEvent{
      .kind = SyncKind::mbarrier_arrive, .object = mbarrier, .agent = operation.number, .scope = Scope::cluster});
  update_mbarrier(c, lane, block, mbarrier, [&](MBarrier& barrier) { return barrier.complete_transactions(bytes); });
}

// What is about to be overwritten must not be an operand of a wgmma under way.
void check_not_read(const Context& c, int lane, Block& block, const BulkArea& area) {
  const uint32_t begin = static_cast<uint32_t>(area.shared & ((1u << kSharedRankShift) - 1));
  for (const auto& product : block_state(block).reading)
    if (product->reads({begin, begin + area.bytes}))
      c.fault(FaultKind::race, lane,
              "the destination is still read by `" + c.launch->code->text(product->pc).substr(0, 70) + "…` at " +
                  c.launch->code->place(product->pc) + ", which nobody has waited for");
}

class BulkLoad final : public Operation {
 public:
  BulkLoad(const Context& c, int lane, BulkArea area, std::vector<Block*> blocks, uint64_t address)
      : Operation(c),
        lane_(lane),
        area_(std::move(area)),
        blocks_(std::move(blocks)),
        data_(std::make_unique_for_overwrite<uint8_t[]>(area_.bytes)) {
    mbarrier = address;
    const Memory& global = context.global();
    for (const BoxRun& run : area_.runs)
      for_each_piece(area_, run, [&](uint32_t at, uint64_t from, uint32_t bytes) {
        if (run.inside)
          copy_piece(&data_[at], global.cell(from), bytes);
        else
          std::memset(&data_[at], 0, bytes);
      });
    for (Block* block : blocks_) block->shared->mark_undefined(destination(*block), area_.bytes);
  }

  void complete(Launch& launch) override {
    check_unchanged();
    if (launch.observer) observe_runs();
    for (Block* block : blocks_) {
      if (block->exited) context.fault(FaultKind::usage, lane_, "a bulk copy arrives in a block that has exited");
      const uint64_t to = destination(*block);
      context.observe(MemoryEvent{.space = Space::shared,
                                  .kind = AccessKind::write,
                                  .proxy = Proxy::asynchronous,
                                  .lanes = 1,
                                  .addresses = &to,
                                  .bytes = area_.bytes,
                                  .agent = number});
      std::memcpy(block->shared->cell(to), data_.get(), area_.bytes);
      block->shared->mark_defined(to, area_.bytes);
    }
    carry_undefined();
    report_complete();
    for (Block* block : blocks_) count_bytes(*this, lane_, *block, mbarrier_in(*block, mbarrier), area_.bytes);
  }

 private:
  uint64_t destination(const Block& block) const {
    return block.shared->base() + (area_.shared & ((1u << kSharedRankShift) - 1));
  }

  void check_unchanged() const {
    const Memory& global = context.global();
    for (const BoxRun& run : area_.runs) {
      if (!run.inside) continue;
      if (global.first_inaccessible(run.global, run.bytes) != run.global + run.bytes)
        context.fault(FaultKind::address, lane_, "the source of a bulk copy was freed while it was under way");
      for_each_piece(area_, run, [&](uint32_t at, uint64_t from, uint32_t bytes) {
        if (!same_piece(&data_[at], global.cell(from), bytes))
          context.fault(FaultKind::race, lane_, "the source of a bulk copy was changed while it was under way");
      });
    }
  }

  void observe_runs() {
    for (const BoxRun& run : area_.runs)
      if (run.inside)
        context.observe(MemoryEvent{
            .proxy = Proxy::asynchronous, .lanes = 1, .addresses = &run.global, .bytes = run.bytes, .agent = number});
  }

  void carry_undefined() const {
    const Memory& global = context.global();
    for (const BoxRun& run : area_.runs) {
      if (!run.inside || global.first_undefined(run.global, run.bytes) == run.global + run.bytes) continue;
      for_each_piece(area_, run, [&](uint32_t at, uint64_t from, uint32_t bytes) {
        for (Block* block : blocks_) block->shared->copy_definedness(destination(*block) + at, global, from, bytes);
      });
    }
  }

  int lane_;
  BulkArea area_;
  std::vector<Block*> blocks_;
  std::unique_ptr<uint8_t[]> data_;  // [area_.bytes] as it will be
};

void forget(BulkRead& read) {
  auto& reads = block_state(*read.block).bulk_reads;
  std::erase_if(reads, [&](const auto& one) { return one.get() == &read; });
}

class BulkStore final : public Operation {
 public:
  BulkStore(const Context& c, BulkArea area, BulkReduction reduction, std::shared_ptr<BulkRead> read)
      : Operation(c), area_(std::move(area)), reduction_(reduction), read_(std::move(read)) {}

  void complete(Launch&) override {
    read_->finish();
    Memory& global = context.global();
    for (const BoxRun& run : area_.runs) {
      if (!run.inside) continue;
      check_range(context, first_lane(context.lanes), global, run.global, run.bytes, "bulk store");
      context.observe(
          MemoryEvent{.kind = reduction_.operation == Reduction::none ? AccessKind::write : AccessKind::atomic,
                      .proxy = Proxy::asynchronous,
                      .lanes = 1,
                      .addresses = &run.global,
                      .bytes = run.bytes,
                      .agent = number});
      if (reduction_.operation == Reduction::none) global.mark_defined(run.global, run.bytes);
      for_each_piece(area_, run, [&](uint32_t at, uint64_t to, uint32_t bytes) { store(global, at, to, bytes); });
    }
    report_complete();
  }

 private:
  void store(Memory& global, uint32_t at, uint64_t to, uint32_t bytes) {
    if (reduction_.operation == Reduction::none) {
      copy_piece(global.cell(to), &read_->data[at], bytes);
    } else {
      reduce(reduction_, global.cell(to), &read_->data[at], bytes);
    }
    if (read_->undefined.empty()) return;
    for (uint32_t k = 0; k < bytes; ++k)
      if (read_->undefined[at + k]) global.mark_undefined(to + k, 1);
  }

  BulkArea area_;
  BulkReduction reduction_;
  std::shared_ptr<BulkRead> read_;
};

class BulkTransfer final : public Operation {
 public:
  BulkTransfer(const Context& c, int lane, uint64_t to, uint64_t address, BulkReduction reduction,
               std::shared_ptr<BulkRead> read)
      : Operation(c), lane_(lane), to_(to), reduction_(reduction), read_(std::move(read)) {
    mbarrier = address;
    if (reduction_.operation == Reduction::none) receiver().shared->mark_undefined(to_, bytes());
  }

  void complete(Launch&) override {
    read_->finish();
    Block& block = receiver();
    if (block.exited) context.fault(FaultKind::usage, lane_, "a bulk copy arrives in a block that has exited");
    context.observe(MemoryEvent{.space = Space::shared,
                                .kind = AccessKind::write,
                                .proxy = Proxy::asynchronous,
                                .lanes = 1,
                                .addresses = &to_,
                                .bytes = bytes(),
                                .agent = number});
    if (reduction_.operation == Reduction::none) {
      std::memcpy(block.shared->cell(to_), read_->data.data(), bytes());
      block.shared->mark_defined(to_, bytes());
    } else {
      reduce(reduction_, block.shared->cell(to_), read_->data.data(), bytes());
    }
    for (uint32_t k = 0; k < read_->undefined.size(); ++k)
      if (read_->undefined[k]) block.shared->mark_undefined(to_ + k, 1);
    report_complete();
    count_bytes(*this, lane_, block, mbarrier, bytes());
  }

 private:
  Block& receiver() const { return *context.cluster->blocks[to_ >> kSharedRankShift]; }
  uint32_t bytes() const { return static_cast<uint32_t>(read_->data.size()); }
  int lane_;
  uint64_t to_;
  BulkReduction reduction_;
  std::shared_ptr<BulkRead> read_;
};

}  // namespace

void check_global(const Context& c, int lane, const BulkArea& area, const char* what) {
  for (const BoxRun& run : area.runs)
    if (run.inside) check_range(c, lane, c.global(), run.global, run.bytes, what);
}

void check_shared(const Context& c, int lane, const Block& block, const BulkArea& area, uint32_t alignment,
                  const char* what) {
  if (area.shared % alignment)
    c.fault(FaultKind::address, lane,
            std::string(what) + " must be aligned to " + std::to_string(alignment) + " bytes");
  check_range(c, lane, *block.shared, area.shared, area.bytes, what);
}

BulkRead::BulkRead(const Context& c, Block& source_block, const BulkArea& area)
    : context(c), block(&source_block), address(area.shared), data(area.bytes) {
  context.split = nullptr;
  const Memory& shared = *block->shared;
  std::memcpy(data.data(), shared.cell(address), data.size());
  if (shared.first_undefined(address, data.size()) == address + data.size()) return;
  for (size_t k = 0; k < data.size(); ++k) undefined.push_back(shared.undefined(address + k, 1) != 0);
}

void BulkRead::finish() {
  if (finished) return;
  finished = true;
  forget(*this);
  context.observe(MemoryEvent{.space = Space::shared,
                              .proxy = Proxy::asynchronous,
                              .lanes = 1,
                              .addresses = &address,
                              .bytes = static_cast<uint32_t>(data.size()),
                              .agent = operation});
  if (std::memcmp(data.data(), block->shared->cell(address), data.size()) != 0)
    context.fault(FaultKind::race, first_lane(context.lanes),
                  "the source of a bulk copy was changed before the copy had read it");
}

std::unique_ptr<Operation> make_bulk_load(Context& c, int lane, BulkArea area, std::vector<Block*> blocks,
                                          uint64_t mbarrier) {
  for (Block* block : blocks) {
    check_not_read(c, lane, *block, area);
    read_mbarrier(c, lane, *block, mbarrier_in(*block, mbarrier));
  }
  c.launch->counters.asynchronous_bytes += area.bytes;
  return std::make_unique<BulkLoad>(c, lane, std::move(area), std::move(blocks), mbarrier);
}

std::unique_ptr<Operation> make_bulk_store(Context& c, BulkArea area, BulkReduction reduction,
                                           std::shared_ptr<BulkRead> read) {
  block_state(*c.block).bulk_reads.push_back(read);
  c.launch->counters.asynchronous_bytes += area.bytes;
  return std::make_unique<BulkStore>(c, std::move(area), reduction, std::move(read));
}

std::unique_ptr<Operation> make_bulk_transfer(Context& c, int lane, uint64_t to, uint64_t mbarrier,
                                              BulkReduction reduction, std::shared_ptr<BulkRead> read) {
  block_state(*c.block).bulk_reads.push_back(read);
  return std::make_unique<BulkTransfer>(c, lane, to, mbarrier, reduction, std::move(read));
}

}  // namespace foretoken::machine
