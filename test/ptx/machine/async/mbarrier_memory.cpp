#include "mbarrier_memory.h"

#include <cstring>
#include <sstream>

namespace foretoken::machine {
namespace {

constexpr uint32_t kBytes = 8;

}  // namespace

MBarrier read_mbarrier(const Context& c, int lane, const Block& block, uint64_t address) {
  uint64_t word;
  const uint64_t undefined = read_bytes(c, *block.shared, lane, address, kBytes, &word, "mbarrier");
  const auto barrier = undefined ? std::nullopt : MBarrier::decode(word);
  if (barrier) return *barrier;
  std::ostringstream text;
  text << "there is no initialised mbarrier at shared address 0x" << std::hex << address;
  c.fault(FaultKind::usage, lane, text.str());
}

void write_mbarrier(Block& block, uint64_t address, const MBarrier& barrier) {
  const uint64_t word = barrier.encode();
  std::memcpy(block.shared->cell(address), &word, kBytes);
}

void check_mbarrier_result(const Context& c, int lane, const MBarrier& before, MBarrier::Result result) {
  if (result.error == MBarrier::Error::none) return;
  std::ostringstream text;
  if (result.error == MBarrier::Error::too_many_arrivals)
    text << "more arrivals at the mbarrier than its phase expects (" << before.expected << ", of which "
         << before.pending << " are still to come)";
  else
    text << "the mbarrier's tx-count of " << before.transactions << " bytes leaves its range of ±"
         << MBarrier::kMaxTransactions;
  c.fault(FaultKind::usage, lane, text.str());
}

void initialize_mbarrier(const Context& c, int lane, Block& block, uint64_t address, uint32_t count) {
  if (count == 0 || count > MBarrier::kMaxCount)
    c.fault(FaultKind::usage, lane, "an mbarrier expects 1 … 2²⁰−1 arrivals");
  const MBarrier barrier{.expected = count, .pending = count};
  const uint64_t word = barrier.encode();
  write_bytes(c, *block.shared, lane, address, kBytes, &word, 0, "mbarrier.init");
}

void invalidate_mbarrier(const Context& c, int lane, Block& block, uint64_t address) {
  read_mbarrier(c, lane, block, address);
  block.shared->mark_undefined(address, kBytes);
}

}  // namespace foretoken::machine
