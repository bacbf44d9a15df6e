// Fused linear cross-entropy, the plain loop: the specification of the three slots, and in f64 the oracle.
//
//   z_j = softcap(logit_scale·(x·W_j + b_j)),  p = softmax(z),  S' = Σ_{j≠y} p_j  (1 − p_y without the cancellation)
//   ∂loss/∂z_j = p_j(1 + 2·z_loss·lse) − ε/V                  for j ≠ y
//   ∂loss/∂z_y = −S' + ε − ε/V + 2·z_loss·lse·p_y
//
// One row of V logits per worker is all that is kept; the gradients compute it again.
#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {
namespace {

template <class Storage>
using SumOf = Arithmetic<Storage>;

// Element i of a view whose dtype is not the kernel's own: statistics, weights of rows, the bias.
double load_element(const View& view, int64_t i) {
  double value = 0;
  dispatch(view.dtype,
           [&](auto element) { value = value_of(static_cast<const typename decltype(element)::type*>(view.data)[i]); });
  return value;
}

void store_element(const View& view, int64_t i, double value) {
  dispatch(view.dtype,
           [&](auto element) { store_scalar(static_cast<typename decltype(element)::type*>(view.data) + i, value); });
}

// Eight chains, so that a compiler may vectorise them without changing a bit.
template <class Storage>
SumOf<Storage> dot(const Storage* a, const Storage* b, int64_t count) {
  constexpr int64_t kChains = 8;
  SumOf<Storage> chains[kChains] = {}, rest = 0;
  int64_t i = 0;
  for (; i + kChains <= count; i += kChains)
    for (int64_t chain = 0; chain < kChains; chain++) chains[chain] += value_of(a[i + chain]) * value_of(b[i + chain]);
  for (; i < count; i++) rest += value_of(a[i]) * value_of(b[i]);
  for (SumOf<Storage> chain : chains) rest += chain;
  return rest;
}

template <class Storage>
void add_scaled(SumOf<Storage>* sum, SumOf<Storage> factor, const Storage* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) sum[i] += factor * value_of(x[i]);
}

// Row r of the view becomes the sum, or has it added.
template <class Sum>
void store_row(const View& view, int64_t r, const Sum* sum, int64_t count, bool accumulate) {
  dispatch(view.dtype, [&](auto element) {
    auto* row = static_cast<typename decltype(element)::type*>(view.data) + r * count;
    for (int64_t i = 0; i < count; i++) store_scalar(row + i, accumulate ? value_of(row[i]) + sum[i] : sum[i]);
  });
}

struct Options {
  int64_t shift;
  double label_smoothing, z_loss, logit_scale, softcap;
};

template <class Storage>
struct Problem {
  using Sum = SumOf<Storage>;
  const Storage* hidden;  // (R,d)
  const Storage* weight;  // (V,d)
  View bias, targets, limit;
  Options options;
  int64_t rows, width, vocabulary, tokens;  // R, d, V, T

  Problem(const In& hidden_view, const In& weight_view, const In& bias_, const In& targets_, const In& limit_,
          const Options& options_)
      : hidden(static_cast<const Storage*>(hidden_view.data)),
        weight(static_cast<const Storage*>(weight_view.data)),
        bias(bias_),
        targets(targets_),
        limit(limit_),
        options(options_),
        rows(row_count(hidden_view)),
        width(last_dimension(hidden_view)),
        vocabulary(weight_view.shape[0]),
        tokens(row_count(targets_) ? rows / row_count(targets_) : 0) {}

  // The class that row r must predict, or −1 where it is ignored.
  int64_t target(int64_t r) const {
    int64_t b = r / tokens, t = r % tokens, position = t + options.shift, stored = last_dimension(targets);
    if (position < 0 || position >= stored) return -1;
    if (given(limit) && position > static_cast<const int32_t*>(limit.data)[r]) return -1;
    int32_t y = static_cast<const int32_t*>(targets.data)[b * stored + position];
    return y >= 0 && y < vocabulary ? y : -1;
  }

  Sum logit(int64_t r, int64_t v) const {
    Sum u = dot(hidden + r * width, weight + v * width, width);
    if (given(bias)) u += static_cast<Sum>(load_element(bias, v));
    u *= static_cast<Sum>(options.logit_scale);
    Sum cap = static_cast<Sum>(options.softcap);
    return options.softcap != 0 ? cap * std::tanh(u / cap) : u;
  }

  // ∂z/∂(x·W_v), from the logit itself: tanh' = 1 − tanh².
  Sum slope(Sum z) const {
    Sum scale = static_cast<Sum>(options.logit_scale), cap = static_cast<Sum>(options.softcap);
    return options.softcap != 0 ? scale * (1 - z / cap * (z / cap)) : scale;
  }
};

// What the logits of one row come to.
template <class Sum>
struct RowStatistics {
  Sum largest, others, total;  // max z; Σ_{j≠y} and Σ_j of exp(z_j − largest)
  Sum log_total;               // log(total), exact as p_y → 1
  Sum mean, weighted;          // mean z; Σ p_j (z_j − largest)
  int64_t argmax;

  Sum lse() const { return largest + log_total; }
};

template <class Sum>
RowStatistics<Sum> row_statistics(const Sum* z, int64_t vocabulary, int64_t target) {
  RowStatistics<Sum> row{z[0], 0, 0, 0, 0, 0, 0};
  for (int64_t v = 0; v < vocabulary; v++) {
    if (z[v] > row.largest) row.argmax = v, row.largest = z[v];
    row.mean += z[v];
  }
  row.mean /= static_cast<Sum>(vocabulary);
  for (int64_t v = 0; v < vocabulary; v++) {
    Sum e = std::exp(z[v] - row.largest);
    row.weighted += e * (z[v] - row.largest);
    if (v != target) row.others += e;
  }
  row.total = row.others + (target < 0 ? 0 : std::exp(z[target] - row.largest));
  bool target_leads = target >= 0 && z[target] == row.largest;
  row.log_total = target_leads ? std::log1p(row.others) : std::log(row.total);
  row.weighted /= row.total;
  return row;
}

template <class Sum>
double row_loss(const Options& options, const RowStatistics<Sum>& row, Sum target_logit) {
  Sum smoothing = static_cast<Sum>(options.label_smoothing), lse = row.lse();
  // lse − z taken from the largest logit, so that a common offset of the logits costs nothing.
  Sum target_term = (row.largest - target_logit) + row.log_total;
  Sum mean_term = (row.largest - row.mean) + row.log_total;
  return (1 - smoothing) * target_term + smoothing * mean_term + static_cast<Sum>(options.z_loss) * lse * lse;
}

template <class Storage>
void forward(const Call& call, const Problem<Storage>& problem, const Out& loss, const Out& lse, const Out& argmax,
             const Out& rank, const Out& entropy) {
  using Sum = SumOf<Storage>;
  int64_t vocabulary = problem.vocabulary;
  parallel_for(call, problem.rows, [&](int64_t r, int worker) {
    Sum* z = static_cast<Sum*>(call.workspace) + worker * vocabulary;
    for (int64_t v = 0; v < vocabulary; v++) z[v] = problem.logit(r, v);
    int64_t y = problem.target(r);
    RowStatistics<Sum> row = row_statistics(z, vocabulary, y);
    store_element(loss, r, y < 0 ? 0 : row_loss(problem.options, row, z[y]));
    store_element(lse, r, row.lse());
    if (given(argmax)) static_cast<int32_t*>(argmax.data)[r] = static_cast<int32_t>(row.argmax);
    if (given(entropy)) store_element(entropy, r, row.log_total - row.weighted);
    if (!given(rank)) return;
    int32_t larger = y < 0 ? -1 : 0;
    for (int64_t v = 0; y >= 0 && v < vocabulary; v++) larger += z[v] > z[y];
    static_cast<int32_t*>(rank.data)[r] = larger;
  });
}

// ∂(upstream·loss)/∂(x·W_v) of one row = (factor·exp(z_v − offset) − smoothing)·slope(z_v), and target_gradient at y.
template <class Sum>
struct RowGradient {
  Sum offset, factor, smoothing, target_gradient;
  int64_t target;
};

// others: Σ_{j≠y} exp(z_j − offset) / normalizer = 1 − p_y.
template <class Storage, class Sum = SumOf<Storage>>
RowGradient<Sum> row_gradient(const Problem<Storage>& problem, Sum upstream, Sum offset, Sum normalizer, Sum others,
                              Sum lse, Sum target_logit, int64_t target) {
  if (target < 0) return {offset, 0, 0, 0, -1};
  Sum smoothing = static_cast<Sum>(problem.options.label_smoothing);
  Sum share = smoothing / static_cast<Sum>(problem.vocabulary);
  Sum z_term = 2 * static_cast<Sum>(problem.options.z_loss) * lse;
  Sum at_target = -others + smoothing - share + z_term * (1 - others);
  return {offset, upstream * (1 + z_term) / normalizer, upstream * share,
          upstream * at_target * problem.slope(target_logit), target};
}

template <class Storage, class Sum = SumOf<Storage>>
Sum gradient(const Problem<Storage>& problem, const RowGradient<Sum>& row, int64_t v, Sum z) {
  if (v == row.target) return row.target_gradient;
  return (row.factor * std::exp(z - row.offset) - row.smoothing) * problem.slope(z);
}

// Both products of the gradient. dweight and dbias first: dhidden may lie over hidden.
template <class Storage>
void gradients(const Call& call, const Problem<Storage>& problem, const RowGradient<SumOf<Storage>>* rows,
               SumOf<Storage>* scratch, const InOut& dhidden, const InOut& dweight, const InOut& dbias,
               bool accumulate_dhidden, bool accumulate_dweight) {
  using Sum = SumOf<Storage>;
  int64_t width = problem.width;
  if (given(dweight) || given(dbias)) {
    parallel_for(call, problem.vocabulary, [&](int64_t v, int worker) {
      Sum *row = scratch + worker * width, bias_sum = 0;
      for (int64_t i = 0; i < width; i++) row[i] = 0;
      for (int64_t r = 0; r < problem.rows; r++) {
        if (rows[r].target < 0) continue;
        Sum g = gradient(problem, rows[r], v, problem.logit(r, v));
        bias_sum += g;
        add_scaled(row, g, problem.hidden + r * width, width);
      }
      if (given(dweight)) store_row(dweight, v, row, width, accumulate_dweight);
      if (given(dbias)) store_row(dbias, v, &bias_sum, 1, accumulate_dweight);
    });
  }
  if (!given(dhidden)) return;
  parallel_for(call, problem.rows, [&](int64_t r, int worker) {
    Sum* row = scratch + worker * width;
    for (int64_t i = 0; i < width; i++) row[i] = 0;
    for (int64_t v = 0; rows[r].target >= 0 && v < problem.vocabulary; v++)
      add_scaled(row, gradient(problem, rows[r], v, problem.logit(r, v)), problem.weight + v * width, width);
    store_row(dhidden, r, row, width, accumulate_dhidden);
  });
}

// Workspace of the gradients: a RowGradient per row, then per worker a row of logits or of a sum.
template <class Storage>
struct GradientWorkspace {
  using Sum = SumOf<Storage>;
  RowGradient<Sum>* rows;
  Sum* scratch;
  explicit GradientWorkspace(const Call& call, int64_t row_count)
      : rows(static_cast<RowGradient<Sum>*>(call.workspace)), scratch(reinterpret_cast<Sum*>(rows + row_count)) {}
  static size_t bytes(const Machine& machine, int64_t rows, int64_t width, int64_t vocabulary) {
    int64_t scratch = vocabulary > width ? vocabulary : width;
    return static_cast<size_t>(rows) * sizeof(RowGradient<Sum>) +
           static_cast<size_t>(machine.threads * scratch) * sizeof(Sum);
  }
};

template <class Storage>
void backward(const Call& call, const Problem<Storage>& problem, const In& lse, const In& upstream,
              const InOut& dhidden, const InOut& dweight, const InOut& dbias, bool accumulate_dhidden,
              bool accumulate_dweight) {
  using Sum = SumOf<Storage>;
  GradientWorkspace<Storage> workspace(call, problem.rows);
  bool per_row = element_count(upstream) > 1;
  parallel_for(call, problem.rows, [&](int64_t r, int) {
    int64_t y = problem.target(r);
    Sum row_lse = static_cast<Sum>(load_element(lse, r)), others = 0, target_logit = 0;
    for (int64_t v = 0; y >= 0 && v < problem.vocabulary; v++) {
      Sum z = problem.logit(r, v);
      if (v == y)
        target_logit = z;
      else
        others += std::exp(z - row_lse);
    }
    Sum up = static_cast<Sum>(load_element(upstream, per_row ? r : 0));
    workspace.rows[r] = row_gradient(problem, up, row_lse, Sum(1), others, row_lse, target_logit, y);
  });
  gradients(call, problem, workspace.rows, workspace.scratch, dhidden, dweight, dbias, accumulate_dhidden,
            accumulate_dweight);
}

template <class Storage>
void train(const Call& call, const Problem<Storage>& problem, const In& scale, const In& row_weight, const Out& loss,
           const Out& argmax, const InOut& dhidden, const InOut& dweight, const InOut& dbias, bool accumulate_dhidden,
           bool accumulate_dweight) {
  using Sum = SumOf<Storage>;
  GradientWorkspace<Storage> workspace(call, problem.rows);
  parallel_for(call, problem.rows, [&](int64_t r, int worker) {
    Sum* z = workspace.scratch + worker * problem.vocabulary;
    for (int64_t v = 0; v < problem.vocabulary; v++) z[v] = problem.logit(r, v);
    int64_t y = problem.target(r);
    RowStatistics<Sum> row = row_statistics(z, problem.vocabulary, y);
    Sum target_logit = y < 0 ? 0 : z[y];
    store_element(loss, r, y < 0 ? 0 : row_loss(problem.options, row, target_logit));
    if (given(argmax)) static_cast<int32_t*>(argmax.data)[r] = static_cast<int32_t>(row.argmax);
    Sum up = static_cast<Sum>(load_element(scale, 0));
    if (given(row_weight)) up *= static_cast<Sum>(load_element(row_weight, r));
    workspace.rows[r] =
        row_gradient(problem, up, row.largest, row.total, row.others / row.total, row.lse(), target_logit, y);
  });
  gradients(call, problem, workspace.rows, workspace.scratch, dhidden, dweight, dbias, accumulate_dhidden,
            accumulate_dweight);
}

// ---- the slots ------------------------------------------------------------------------------------------------------

void linear_cross_entropy(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                          double label_smoothing, double z_loss, double logit_scale, double softcap, Out loss, Out lse,
                          Out argmax, Out rank, Out entropy) {
  Options options{shift, label_smoothing, z_loss, logit_scale, softcap};
  dispatch(hidden.dtype, [&](auto element) {
    using Storage = typename decltype(element)::type;
    forward(call, Problem<Storage>(hidden, weight, bias, targets, limit, options), loss, lse, argmax, rank, entropy);
  });
}

size_t linear_cross_entropy_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t, double, double,
                                      double, double, Out, Out, Out, Out, Out) {
  size_t sum_bytes = hidden.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return static_cast<size_t>(machine.threads * weight.shape[0]) * sum_bytes;
}

void linear_cross_entropy_backward(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                   double label_smoothing, double z_loss, double logit_scale, double softcap, In lse,
                                   In upstream, InOut dhidden, InOut dweight, InOut dbias, bool accumulate_dhidden,
                                   bool accumulate_dweight) {
  Options options{shift, label_smoothing, z_loss, logit_scale, softcap};
  dispatch(hidden.dtype, [&](auto element) {
    using Storage = typename decltype(element)::type;
    backward(call, Problem<Storage>(hidden, weight, bias, targets, limit, options), lse, upstream, dhidden, dweight,
             dbias, accumulate_dhidden, accumulate_dweight);
  });
}

size_t gradient_workspace(const Machine& machine, const In& hidden, const In& weight) {
  size_t bytes = 0;
  dispatch(hidden.dtype, [&](auto element) {
    using Workspace = GradientWorkspace<typename decltype(element)::type>;
    bytes = Workspace::bytes(machine, row_count(hidden), last_dimension(hidden), weight.shape[0]);
  });
  return bytes;
}

size_t linear_cross_entropy_backward_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t,
                                               double, double, double, double, In, In, InOut, InOut, InOut, bool,
                                               bool) {
  return gradient_workspace(machine, hidden, weight);
}

void linear_cross_entropy_train(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                double label_smoothing, double z_loss, double logit_scale, double softcap, In scale,
                                In row_weight, Out loss, Out argmax, InOut dhidden, InOut dweight, InOut dbias,
                                bool accumulate_dhidden, bool accumulate_dweight) {
  Options options{shift, label_smoothing, z_loss, logit_scale, softcap};
  dispatch(hidden.dtype, [&](auto element) {
    using Storage = typename decltype(element)::type;
    train(call, Problem<Storage>(hidden, weight, bias, targets, limit, options), scale, row_weight, loss, argmax,
          dhidden, dweight, dbias, accumulate_dhidden, accumulate_dweight);
  });
}

size_t linear_cross_entropy_train_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t, double,
                                            double, double, double, In, In, Out, Out, InOut, InOut, InOut, bool, bool) {
  return gradient_workspace(machine, hidden, weight);
}

}  // namespace

void fill_cross_entropy(Kernels& table) {
  table.linear_cross_entropy = {linear_cross_entropy, linear_cross_entropy_workspace};
  table.linear_cross_entropy_backward = {linear_cross_entropy_backward, linear_cross_entropy_backward_workspace};
  table.linear_cross_entropy_train = {linear_cross_entropy_train, linear_cross_entropy_train_workspace};
}

}  // namespace foretoken::generic
