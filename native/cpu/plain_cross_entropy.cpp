// Cross-entropy of stored logits: a row with the vectors of a SIMD level.
#include "plain_cross_entropy.h"

#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

// x where its lanes are elements, else `beyond`.
template <class Lanes>
static inline Vec within(Vec x, Vec beyond, Lanes lanes) {
  if constexpr (__is_same(Lanes, FirstLanes)) return select_n(x, beyond, lanes.count);
  return x;
}

// Σ exp(logit − maximum): float within a block, double between blocks. A NaN anywhere makes it NaN.
template <class Storage>
static double exponential_sum(const Storage* logits, int64_t vocabulary, float maximum) {
  double total = 0;
  for (int64_t first = 0; first < vocabulary; first += kBlock) {
    const Storage* block = logits + first;
    total += sum_vectors(smaller(kBlock, vocabulary - first), [=](int64_t i, auto lanes) {
      return within(exp(sub(load(block + i, lanes), broadcast(maximum))), zero(), lanes);
    });
  }
  return total;
}

template <class Storage>
static LogitStatistics logit_statistics(const Storage* logits, int64_t vocabulary) {
  Vec largest = broadcast(-__builtin_inff());
  for_vectors(0, vocabulary,
              [&](int64_t v, auto lanes) { largest = max(largest, within(load(logits + v, lanes), largest, lanes)); });
  float maximum = reduce_max(largest);
  double sum = exponential_sum(logits, vocabulary, maximum);
  if (!__builtin_isfinite(sum)) return {0, maximum, __builtin_nan("")};
  int64_t argmax = 0;
  while (value_of(logits[argmax]) != maximum) argmax++;
  return {argmax, maximum, portable_log(sum)};
}

static void cross_entropy(const Call& call, In logits, In targets, In limit, int64_t shift, Out loss, Out lse,
                          Out argmax) {
  dispatch_stored({logits.dtype}, [&]<class Storage>(Element<Storage>) {
    auto value = [](Storage logit) -> double { return value_of(logit); };
    plain_losses<Storage>(call, logits, PlainTargets(logits, targets, limit, shift), loss, lse, argmax,
                          logit_statistics<Storage>, value);
  });
}

template <class Storage>
static void logit_gradient(const Storage* logits, Storage* dlogits, int64_t vocabulary, int64_t y, double lse,
                           double upstream) {
  Vec offset = broadcast(static_cast<float>(lse)), up = broadcast(static_cast<float>(upstream));
  Vec target = exp(sub(broadcast(value_of(logits[y])), offset));
  for_vectors(0, vocabulary, [&](int64_t v, auto lanes) {
    store(dlogits + v, mul(up, exp(sub(load(logits + v, lanes), offset))), lanes);
  });
  store_n(dlogits + y, mul(up, sub(target, broadcast(1.0f))), 1);
}

static void cross_entropy_backward(const Call& call, In logits, In targets, In limit, int64_t shift, In lse,
                                   In upstream, Out dlogits) {
  dispatch_stored({logits.dtype}, [&]<class Storage>(Element<Storage>) {
    plain_gradients<Storage>(call, logits, PlainTargets(logits, targets, limit, shift), lse, upstream, dlogits,
                             logit_gradient<Storage>);
  });
}

void fill_plain_cross_entropy(Kernels& table) {
  table.cross_entropy = {cross_entropy};
  table.cross_entropy_backward = {cross_entropy_backward};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
