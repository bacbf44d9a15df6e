// The 64 bits of an mbarrier and what the operations make of them. (PTX ISA, "mbarrier".)
//
// A phase ends when as many arrivals as expected have come and tx-count is zero; the next begins at once with the
// expected count pending again. Within a phase tx-count may go below zero: bytes may come before they are expected.
#pragma once
#include <cstdint>
#include <optional>

namespace foretoken::machine {

struct MBarrier {
  static constexpr uint32_t kMaxCount = (1u << 20) - 1;
  static constexpr int32_t kMaxTransactions = (1 << 20) - 1;

  uint32_t expected = 0;  // arrivals of a phase
  uint32_t pending = 0;   // arrivals still to come in this phase
  int32_t transactions = 0;
  bool odd = false;  // parity of the phase that has not ended yet

  uint64_t encode() const;
  // nullopt: nothing that encode() makes: never initialised, or written over.
  static std::optional<MBarrier> decode(uint64_t word);

  // What can go wrong: the operation has no effect then.
  enum class Error : uint8_t { none, too_many_arrivals, transactions_out_of_range };
  struct Result {
    Error error = Error::none;
    bool completed = false;  // the operation ended the phase
  };
  Result expect_transactions(int64_t bytes);
  Result complete_transactions(int64_t bytes) { return expect_transactions(-bytes); }
  Result arrive(uint32_t count);
  Result arrive_drop(uint32_t count);  // also expects so many less from the next phase on
  Result expect_one_more();            // cp.async.mbarrier.arrive without .noinc

  // test_wait: with the state that an arrival returned, or with the parity of the phase waited for.
  bool has_ended(uint64_t state) const;
  bool has_ended_parity(uint32_t parity) const { return odd != ((parity & 1) != 0); }

 private:
  bool end_if_complete();
};

}  // namespace foretoken::machine
