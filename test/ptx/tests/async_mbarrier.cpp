// The mbarrier's state: phases, counts, bytes that come before they are expected.
#include <initializer_list>

#include "../machine/async/mbarrier.h"
#include "doctest.h"

using namespace foretoken::machine;

namespace {

MBarrier fresh(uint32_t count) { return {.expected = count, .pending = count}; }

}  // namespace

TEST_CASE("mbarrier: a phase ends with the last arrival, and the next expects as many") {
  MBarrier barrier = fresh(3);
  CHECK(barrier.has_ended_parity(1));  // the phase before the first: what a producer's first wait asks
  CHECK_FALSE(barrier.has_ended_parity(0));
  CHECK_FALSE(barrier.arrive(1).completed);
  CHECK(barrier.arrive(2).completed);
  CHECK(barrier.has_ended_parity(0));
  CHECK_FALSE(barrier.has_ended_parity(1));
  CHECK(barrier.pending == 3);
  CHECK(barrier.arrive(3).completed);
  CHECK(barrier.has_ended_parity(1));
}

TEST_CASE("mbarrier: the state that an arrival returns tells its phase from the next") {
  MBarrier barrier = fresh(2);
  uint64_t state = barrier.encode();
  barrier.arrive(1);
  CHECK_FALSE(barrier.has_ended(state));
  barrier.arrive(1);
  CHECK(barrier.has_ended(state));
}

TEST_CASE("mbarrier: bytes count, and may come before they are expected") {
  MBarrier barrier = fresh(1);
  CHECK_FALSE(barrier.complete_transactions(48).completed);
  CHECK(barrier.transactions == -48);
  CHECK_FALSE(barrier.expect_transactions(64).completed);
  CHECK_FALSE(barrier.arrive(1).completed);
  CHECK(barrier.pending == 0);
  CHECK(barrier.complete_transactions(16).completed);
  CHECK(barrier.transactions == 0);
  CHECK(barrier.pending == 1);
}

TEST_CASE("mbarrier: an expectation can end the phase that its bytes have overtaken") {
  MBarrier barrier = fresh(1);
  barrier.complete_transactions(64);
  CHECK_FALSE(barrier.arrive(1).completed);
  CHECK(barrier.expect_transactions(64).completed);
}

TEST_CASE("mbarrier: arrive_drop leaves one less for the phases to come") {
  MBarrier barrier = fresh(2);
  barrier.arrive_drop(1);
  CHECK(barrier.arrive(1).completed);
  CHECK(barrier.pending == 1);
  CHECK(barrier.arrive(1).completed);
}

TEST_CASE("mbarrier: a pending copy's arrival is added before it comes") {
  MBarrier barrier = fresh(1);
  barrier.expect_one_more();
  CHECK_FALSE(barrier.arrive(1).completed);
  CHECK(barrier.arrive(1).completed);
  CHECK(barrier.pending == 1);
}

TEST_CASE("mbarrier: what cannot be has no effect and says why") {
  MBarrier barrier = fresh(2);
  CHECK(barrier.arrive(3).error == MBarrier::Error::too_many_arrivals);
  CHECK(barrier.pending == 2);
  CHECK(barrier.expect_transactions(1 << 20).error == MBarrier::Error::transactions_out_of_range);
  CHECK(barrier.transactions == 0);
  CHECK(barrier.expect_transactions(MBarrier::kMaxTransactions).error == MBarrier::Error::none);
  CHECK(barrier.expect_transactions(1).error == MBarrier::Error::transactions_out_of_range);
}

TEST_CASE("mbarrier: 64 bits hold every state, other words are none") {
  for (int32_t transactions : {0, 1, -1, 12345, -12345, MBarrier::kMaxTransactions, -MBarrier::kMaxTransactions})
    for (uint32_t expected : {1u, 129u, MBarrier::kMaxCount})
      for (bool odd : {false, true}) {
        MBarrier barrier{expected, expected / 2, transactions, odd};
        auto back = MBarrier::decode(barrier.encode());
        REQUIRE(back);
        CHECK(back->expected == expected);
        CHECK(back->pending == expected / 2);
        CHECK(back->transactions == transactions);
        CHECK(back->odd == odd);
      }
  CHECK_FALSE(MBarrier::decode(0));
  CHECK_FALSE(MBarrier::decode(0x3f8000003f800000));  // two floats
  CHECK_FALSE(MBarrier::decode(~0ull));
}
