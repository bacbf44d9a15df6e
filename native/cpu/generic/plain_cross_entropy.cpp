// Cross-entropy of stored logits as plain loops in double: the specification.
#include "../plain_cross_entropy.h"

#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {

template <class Storage>
static LogitStatistics logit_statistics(const Storage* logits, int64_t vocabulary) {
  LogitStatistics row = {0, value_of(logits[0]), 0};
  for (int64_t v = 1; v < vocabulary; v++)
    if (value_of(logits[v]) > row.maximum) row = {v, value_of(logits[v]), 0};
  double sum = 0;
  for (int64_t v = 0; v < vocabulary; v++) sum += std::exp(value_of(logits[v]) - row.maximum);
  row.log_sum = std::log(sum);
  return row;
}

static void cross_entropy(const Call& call, In logits, In targets, In limit, int64_t shift, Out loss, Out lse,
                          Out argmax) {
  dispatch(logits.dtype, [&](auto element) {
    using Storage = typename decltype(element)::type;
    auto value = [](Storage logit) -> double { return value_of(logit); };
    plain_losses<Storage>(call, logits, PlainTargets(logits, targets, limit, shift), loss, lse, argmax,
                          logit_statistics<Storage>, value);
  });
}

static void cross_entropy_backward(const Call& call, In logits, In targets, In limit, int64_t shift, In lse,
                                   In upstream, Out dlogits) {
  dispatch(logits.dtype, [&](auto element) {
    using Storage = typename decltype(element)::type;
    auto gradient = [](const Storage* z, Storage* out, int64_t vocabulary, int64_t y, double lse_, double up) {
      for (int64_t v = 0; v < vocabulary; v++) {
        double probability = std::exp(value_of(z[v]) - lse_);
        store_scalar(out + v, static_cast<Arithmetic<Storage>>(up * (probability - (v == y))));
      }
    };
    plain_gradients<Storage>(call, logits, PlainTargets(logits, targets, limit, shift), lse, upstream, dlogits,
                             gradient);
  });
}

void fill_plain_cross_entropy(Kernels& table) {
  table.cross_entropy = {cross_entropy};
  table.cross_entropy_backward = {cross_entropy_backward};
}

}  // namespace foretoken::generic
