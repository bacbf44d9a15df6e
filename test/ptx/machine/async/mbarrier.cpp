#include "mbarrier.h"

namespace foretoken::machine {
namespace {

// From bit 0: pending 20, expected 20, transactions 21 (two's complement), odd 1, seal 2.
constexpr int kExpectedAt = 20, kTransactionsAt = 40, kOddAt = 61, kSealAt = 62;
constexpr uint64_t kSeal = 2;
constexpr uint64_t kTransactionsMask = (1u << 21) - 1;

}  // namespace

uint64_t MBarrier::encode() const {
  return pending | uint64_t{expected} << kExpectedAt |
         (static_cast<uint64_t>(transactions) & kTransactionsMask) << kTransactionsAt | uint64_t{odd} << kOddAt |
         kSeal << kSealAt;
}

std::optional<MBarrier> MBarrier::decode(uint64_t word) {
  if (word >> kSealAt != kSeal) return std::nullopt;
  MBarrier barrier;
  barrier.pending = word & kMaxCount;
  barrier.expected = word >> kExpectedAt & kMaxCount;
  uint32_t transactions = word >> kTransactionsAt & kTransactionsMask;
  barrier.transactions = static_cast<int32_t>(transactions << 11) >> 11;
  barrier.odd = word >> kOddAt & 1;
  if (barrier.pending > barrier.expected) return std::nullopt;
  return barrier;
}

bool MBarrier::end_if_complete() {
  if (pending != 0 || transactions != 0) return false;
  pending = expected;
  odd = !odd;
  return true;
}

MBarrier::Result MBarrier::expect_transactions(int64_t bytes) {
  int64_t sum = transactions + bytes;
  if (sum > kMaxTransactions || sum < -kMaxTransactions) return {Error::transactions_out_of_range};
  transactions = static_cast<int32_t>(sum);
  return {Error::none, end_if_complete()};
}

MBarrier::Result MBarrier::arrive(uint32_t count) {
  if (count > pending) return {Error::too_many_arrivals};
  pending -= count;
  return {Error::none, end_if_complete()};
}

MBarrier::Result MBarrier::arrive_drop(uint32_t count) {
  if (count > pending) return {Error::too_many_arrivals};
  expected -= count;
  return arrive(count);
}

MBarrier::Result MBarrier::expect_one_more() {
  if (pending == kMaxCount) return {Error::too_many_arrivals};
  ++pending;
  return {};
}

bool MBarrier::has_ended(uint64_t state) const { return odd != (state >> kOddAt & 1); }

}  // namespace foretoken::machine
