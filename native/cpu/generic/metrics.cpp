// Accuracy, conditional accuracy and acceptance of the prediction heads, from their losses and argmaxes; and the
// reduction of one head's losses.
#include "dispatch.h"

namespace foretoken::generic {
namespace {

// What one position adds to the sums of one head, in their order in the table.
enum Count { kLoss, kValid, kCorrect, kBothCorrect, kConditionMet, kAccepted, kAcceptancePositions, kCounts = 8 };

struct Heads {
  const int32_t *argmax, *targets, *limit;  // (n,R), (B,S), (B,T) or nullptr
  int64_t rows, tokens, stored;             // R, T, S

  int32_t guess(int64_t head, int64_t row) const { return argmax[head * rows + row]; }
  int64_t last_position(int64_t row) const { return limit ? limit[row] : stored; }

  // What head i must say at this row: the token i + 1 positions on, or −1 where it is ignored.
  int32_t target(int64_t head, int64_t row) const {
    int64_t position = row % tokens + head + 1;
    if (position >= stored || position > last_position(row)) return -1;
    return targets[row / tokens * stored + position];
  }
  bool valid(int64_t head, int64_t row) const { return target(head, row) >= 0; }
  bool correct(int64_t head, int64_t row) const { return valid(head, row) && guess(head, row) == target(head, row); }

  bool all_correct_before(int64_t head, int64_t row) const {
    for (int64_t j = 0; j < head; j++)
      if (!correct(j, row)) return false;
    return true;
  }
  // The draft of heads 1…i is what head 0 says once it gets there.
  bool accepted(int64_t head, int64_t row) const {
    for (int64_t j = 1; j <= head; j++)
      if (guess(j, row) != guess(0, row + j)) return false;
    return true;
  }
  bool has_acceptance(int64_t head, int64_t row) const {
    int64_t t = row % tokens;
    return t + head < tokens && t + head <= last_position(row);
  }
};

template <class T>
void count_head(const Heads& heads, const T* loss, int64_t head, double* counts) {
  for (int64_t row = 0; row < heads.rows; row++) {
    if (heads.valid(head, row)) {
      bool correct = heads.correct(head, row), condition = heads.all_correct_before(head, row);
      counts[kLoss] += loss[head * heads.rows + row];
      counts[kValid] += 1;
      counts[kCorrect] += correct;
      counts[kConditionMet] += condition;
      counts[kBothCorrect] += condition && correct;
    }
    if (heads.has_acceptance(head, row)) {
      counts[kAcceptancePositions] += 1;
      counts[kAccepted] += heads.accepted(head, row);
    }
  }
}

void multi_token_metrics(const Call& call, In loss, In argmax, In targets, In limit, InOut sums, bool accumulate) {
  int64_t rows = argmax.shape[1], sequences = row_count(targets);
  Heads heads = {static_cast<const int32_t*>(argmax.data), static_cast<const int32_t*>(targets.data),
                 static_cast<const int32_t*>(limit.data),  rows,
                 sequences ? rows / sequences : 0,         last_dimension(targets)};
  parallel_for(call, argmax.shape[0], [&](int64_t head, int) {
    double counts[kCounts] = {};
    dispatch(loss.dtype, [&](auto element) {
      using T = typename decltype(element)::type;
      if constexpr (!std::is_same_v<T, bf16>) {
        count_head(heads, elements<T>(loss), head, counts);
        T* sum = elements<T>(sums) + head * kCounts;
        for (int i = 0; i < kCounts; i++) sum[i] = static_cast<T>((accumulate ? sum[i] : 0.0) + counts[i]);
      }
    });
  });
}

// Sums are in row order, in double: a few thousand rows take microseconds.
template <class T>
void reduce_rows(const T* loss, const int32_t* targets, const T* row_weight, int64_t rows, bool mean, T* total,
                 T* share) {
  double weights = 0, sum = 0;
  for (int64_t r = 0; r < rows; r++) {
    share[r] = targets[r] < 0 ? T(0) : row_weight ? row_weight[r] : T(1);
    weights += share[r];
  }
  double divisor = mean && weights != 0 ? weights : 1;
  for (int64_t r = 0; r < rows; r++) {
    share[r] = static_cast<T>(share[r] / divisor);
    sum += static_cast<double>(share[r]) * loss[r];
  }
  *total = static_cast<T>(sum);
}

void reduce_loss(const Call&, In loss, In targets, In row_weight, bool mean, Out total, Out share) {
  dispatch(loss.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    if constexpr (!std::is_same_v<T, bf16>) {
      reduce_rows(elements<T>(loss), static_cast<const int32_t*>(targets.data), elements<T>(row_weight),
                  element_count(loss), mean, elements<T>(total), elements<T>(share));
    }
  });
}

}  // namespace

void fill_metrics(Kernels& table) {
  table.multi_token_metrics = {multi_token_metrics, nullptr};
  table.reduce_loss = {reduce_loss, nullptr};
}

}  // namespace foretoken::generic
