// A case of the fused linear cross-entropy, and its reference: all logits at once, in double.
#pragma once
#include <algorithm>
#include <string>

#include "helpers.h"

namespace foretoken::test {

// R = batch·tokens rows; targets are (batch, stored).
struct LossCase {
  std::string path = {};  // the path of the kernels that this case is for
  int64_t batch = 1, tokens = 8, stored = 8, width = 16, vocabulary = 32;
  double logit_std = 1;
  int64_t shift = 0;
  double label_smoothing = 0, z_loss = 0, logit_scale = 1, softcap = 0;
  bool bias = false, limit = false;
  double ignored = 0;  // share of the targets that are −1

  int64_t rows() const { return batch * tokens; }
};

// The inputs of a case in the storage T.
template <class T>
struct LossInputs {
  const LossCase config;
  Buffer<T> hidden, weight, bias;
  Buffer<int32_t> targets, limit;

  explicit LossInputs(const LossCase& c, uint64_t seed = 1)
      : config(c),
        hidden(Buffer<T>::of(random_normal(c.rows() * c.width, 1, seed))),
        weight(Buffer<T>::of(random_normal(c.vocabulary * c.width, c.logit_std / std::sqrt(c.width), seed + 1))),
        bias(Buffer<T>::of(random_normal(c.vocabulary, c.logit_std, seed + 2))),
        targets(Buffer<int32_t>::of(random_integers(c.batch * c.stored, 0, c.vocabulary, seed + 3))),
        limit(Buffer<int32_t>::of(random_integers(c.rows(), 0, c.stored, seed + 4))) {
    std::vector<double> draw = random_integers(targets.size(), 0, 1000, seed + 5);
    for (int64_t i = 0; i < targets.size(); i++)
      if (draw[i] < 1000 * c.ignored) targets[i] = -1;
  }
  // The same numbers in another storage.
  template <class Other>
  explicit LossInputs(const LossInputs<Other>& other)
      : config(other.config),
        hidden(Buffer<T>::of(other.hidden.values())),
        weight(Buffer<T>::of(other.weight.values())),
        bias(Buffer<T>::of(other.bias.values())),
        targets(other.targets),
        limit(other.limit) {}

  AnyView hidden_view() const { return view_of(hidden, {config.batch, config.tokens, config.width}); }
  AnyView weight_view() const { return view_of(weight, {config.vocabulary, config.width}); }
  AnyView bias_view() const { return config.bias ? view_of(bias, {config.vocabulary}) : absent; }
  AnyView targets_view() const { return view_of(targets, {config.batch, config.stored}); }
  AnyView limit_view() const { return config.limit ? view_of(limit, {config.batch, config.tokens}) : absent; }

  int64_t target(int64_t r) const {
    int64_t position = r % config.tokens + config.shift;
    if (position < 0 || position >= config.stored || (config.limit && position > limit[r])) return -1;
    return targets[r / config.tokens * config.stored + position];
  }
};

// Everything that the kernels can be asked for, written down from the definitions.
struct LossReference {
  std::vector<double> loss, lse, argmax, rank, entropy, dhidden, dweight, dbias;
};

// upstream (R): the gradients are those of Σ upstream·loss.
template <class T>
LossReference loss_reference(const LossInputs<T>& inputs, const std::vector<double>& upstream) {
  const LossCase& c = inputs.config;
  int64_t rows = c.rows(), d = c.width, V = c.vocabulary;
  std::vector<double> x = inputs.hidden.values(), w = inputs.weight.values(), b = inputs.bias.values();
  LossReference out;
  out.dhidden.assign(rows * d, 0);
  out.dweight.assign(V * d, 0);
  out.dbias.assign(V, 0);
  for (int64_t r = 0; r < rows; r++) {
    std::vector<double> z(V), slope(V);
    for (int64_t v = 0; v < V; v++) {
      double u = c.bias ? b[v] : 0;
      for (int64_t i = 0; i < d; i++) u += x[r * d + i] * w[v * d + i];
      u *= c.logit_scale;
      z[v] = c.softcap != 0 ? c.softcap * std::tanh(u / c.softcap) : u;
      slope[v] = c.logit_scale * (c.softcap != 0 ? 1 - std::pow(std::tanh(u / c.softcap), 2) : 1);
    }
    int64_t y = inputs.target(r), best = std::max_element(z.begin(), z.end()) - z.begin(), larger = 0;
    double others = 0, mean = 0, entropy = 0;
    for (int64_t v = 0; v < V; v++) {
      others += v == best ? 0 : std::exp(z[v] - z[best]);
      mean += z[v] / static_cast<double>(V);
      larger += y >= 0 && z[v] > z[y];
    }
    double lse = z[best] + std::log1p(others), not_target = 0;
    for (int64_t v = 0; v < V; v++) {
      double p = std::exp(z[v] - lse);
      entropy -= p > 0 ? p * (z[v] - lse) : 0;
      if (v != y) not_target += p;
    }
    double e = c.label_smoothing;
    out.loss.push_back(y < 0 ? 0 : (1 - e) * (lse - z[y]) + e * (lse - mean) + c.z_loss * lse * lse);
    out.lse.push_back(lse);
    out.argmax.push_back(static_cast<double>(best));
    out.rank.push_back(y < 0 ? -1 : static_cast<double>(larger));
    out.entropy.push_back(entropy);
    for (int64_t v = 0; y >= 0 && v < V; v++) {
      double p = std::exp(z[v] - lse), share = e / static_cast<double>(V), z_term = 2 * c.z_loss * lse * p;
      double dz = (v == y ? e - not_target : p) - share + z_term;
      double g = upstream[r] * dz * slope[v];
      out.dbias[v] += g;
      for (int64_t i = 0; i < d; i++) {
        out.dhidden[r * d + i] += g * w[v * d + i];
        out.dweight[v * d + i] += g * x[r * d + i];
      }
    }
  }
  return out;
}

// What one call of a slot wrote; everything starts poisoned. Gradient is float, or double for the oracle.
template <class T, class Gradient = float>
struct LossOutputs {
  Buffer<Gradient> loss, lse, entropy, dweight, dbias;
  Buffer<int32_t> argmax, rank;
  Buffer<T> dhidden;

  explicit LossOutputs(const LossCase& c)
      : loss(c.rows()),
        lse(c.rows()),
        entropy(c.rows()),
        dweight(c.vocabulary * c.width),
        dbias(c.vocabulary),
        argmax(c.rows()),
        rank(c.rows()),
        dhidden(c.rows() * c.width) {}

  bool guards_intact() const {
    return loss.guards_intact() && lse.guards_intact() && entropy.guards_intact() && dweight.guards_intact() &&
           dbias.guards_intact() && argmax.guards_intact() && rank.guards_intact() && dhidden.guards_intact();
  }
  bool same_bits(const LossOutputs& other) const {
    return loss.same_bits(other.loss) && lse.same_bits(other.lse) && entropy.same_bits(other.entropy) &&
           dweight.same_bits(other.dweight) && dbias.same_bits(other.dbias) && argmax.same_bits(other.argmax) &&
           rank.same_bits(other.rank) && dhidden.same_bits(other.dhidden);
  }
};

template <class T, class Gradient = float>
void run_forward(const Kernels& kernels, const LossInputs<T>& in, LossOutputs<T, Gradient>& out,
                 const Parallel& parallel = {}) {
  const LossCase& c = in.config;
  run_on(parallel, kernels.linear_cross_entropy, in.hidden_view(), in.weight_view(), in.bias_view(), in.targets_view(),
         in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap, view_of(out.loss, {c.rows()}),
         view_of(out.lse, {c.rows()}), view_of(out.argmax, {c.rows()}), view_of(out.rank, {c.rows()}),
         view_of(out.entropy, {c.rows()}));
}

// Reads out.lse.
template <class T, class Gradient = float>
void run_backward(const Kernels& kernels, const LossInputs<T>& in, const Buffer<Gradient>& upstream,
                  LossOutputs<T, Gradient>& out, bool accumulate = false, const Parallel& parallel = {}) {
  const LossCase& c = in.config;
  run_on(parallel, kernels.linear_cross_entropy_backward, in.hidden_view(), in.weight_view(), in.bias_view(),
         in.targets_view(), in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap,
         view_of(out.lse, {c.rows()}), view_of(upstream, {upstream.size()}), view_of(out.dhidden, {c.rows(), c.width}),
         view_of(out.dweight, {c.vocabulary, c.width}), c.bias ? view_of(out.dbias, {c.vocabulary}) : absent,
         accumulate, accumulate);
}

template <class T, class Gradient = float>
void run_train(const Kernels& kernels, const LossInputs<T>& in, const Buffer<Gradient>& scale,
               const Buffer<Gradient>& row_weight, LossOutputs<T, Gradient>& out, bool accumulate = false,
               const Parallel& parallel = {}) {
  const LossCase& c = in.config;
  run_on(parallel, kernels.linear_cross_entropy_train, in.hidden_view(), in.weight_view(), in.bias_view(),
         in.targets_view(), in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap,
         view_of(scale, {1}), row_weight.size() ? view_of(row_weight, {c.rows()}) : absent,
         view_of(out.loss, {c.rows()}), view_of(out.argmax, {c.rows()}), view_of(out.dhidden, {c.rows(), c.width}),
         view_of(out.dweight, {c.vocabulary, c.width}), c.bias ? view_of(out.dbias, {c.vocabulary}) : absent,
         accumulate, accumulate);
}

// ‖actual − expected‖ / ‖expected‖; the plain norm of the error where nothing is expected.
inline double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

}  // namespace foretoken::test
