// The slots of the fused linear cross-entropy: which steps of a LossPass each takes, chunk by chunk.
// generic/cross_entropy.cpp has the formulas.
#include "cross_entropy_pass.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// body(T()) for float or bf16.
template <class Body>
void with_dtype(DType dtype, Body body) {
  if (dtype == DType::bf16)
    body(bf16{});
  else
    body(float{});
}

size_t workspace_bytes(const Machine& machine, const LossShape& shape, const LossParts& parts) {
  Carver carver{nullptr};
  with_dtype(shape.dtype, [&](auto element) { LossBuffers<decltype(element)>(carver, shape, parts, machine.threads); });
  return carver.used;
}

LossShape shape_of(const In& hidden, const In& weight, LossMode mode) {
  return loss_shape(hidden.dtype, row_count(hidden), last_dimension(hidden), weight.shape[0], mode);
}

// ---- the slots ------------------------------------------------------------------------------------------------------

LossOptions options_of(int64_t shift, double label_smoothing, double z_loss, double logit_scale, double softcap) {
  return {shift, static_cast<float>(label_smoothing), static_cast<float>(z_loss), static_cast<float>(logit_scale),
          static_cast<float>(softcap)};
}

LossParts forward_parts(const In& weight) {
  return {false, false, false, weight.layout == Layout::packed, kStatistics};
}
LossParts backward_parts(const InOut& dbias) { return {true, true, given(dbias), false, 0}; }
LossParts train_parts(const InOut& dbias) { return {true, false, given(dbias), false, 4}; }

void linear_cross_entropy(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                          double label_smoothing, double z_loss, double logit_scale, double softcap, Out loss, Out lse,
                          Out argmax, Out rank, Out entropy) {
  LossInputs in = {hidden,  weight, bias,
                   targets, limit,  options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  LossOutputs out = {loss, lse, argmax, rank, entropy};
  with_dtype(hidden.dtype, [&](auto element) {
    LossPass<decltype(element)> pass(call, in, shape_of(hidden, weight, LossMode::loss), forward_parts(weight));
    for (int64_t row = 0; row < pass.shape.rows; row += pass.shape.chunk) {
      pass.begin_chunk(row);
      if (given(rank)) pass.compute_target_logits();
      pass.compute_statistics();
      pass.for_tokens([&](int64_t t, const TokenSummary& token) { pass.write_outputs(out, t, token); });
    }
  });
}

size_t linear_cross_entropy_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t, double, double,
                                      double, double, Out, Out, Out, Out, Out) {
  return workspace_bytes(machine, shape_of(hidden, weight, LossMode::loss), forward_parts(weight));
}

void linear_cross_entropy_backward(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                   double label_smoothing, double z_loss, double logit_scale, double softcap, In lse,
                                   In upstream, InOut dhidden, InOut dweight, InOut dbias, bool accumulate_dhidden,
                                   bool accumulate_dweight) {
  LossInputs in = {hidden,  weight, bias,
                   targets, limit,  options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  GradientOutputs out = {dhidden, dweight, dbias, accumulate_dhidden, accumulate_dweight};
  const float* upstreams = static_cast<const float*>(upstream.data);
  bool per_row = element_count(upstream) > 1;
  with_dtype(hidden.dtype, [&](auto element) {
    LossPass<decltype(element)> pass(call, in, shape_of(hidden, weight, LossMode::gradient), backward_parts(dbias));
    for (int64_t row = 0; row < pass.shape.rows; row += pass.shape.chunk) {
      const float* row_lse = static_cast<const float*>(lse.data) + row;
      pass.begin_chunk(row);
      for (int64_t t = 0; t < pass.tokens; t++)
        pass.set_gradient(t, upstreams[per_row ? row + t : 0], row_lse[t], 1, row_lse[t]);
      pass.compute_gradients(out);
      for (int64_t t = 0; t < pass.tokens; t++)
        pass.set_target_gradient(t, upstreams[per_row ? row + t : 0], pass.buffers.others[t], row_lse[t]);
      pass.finish_gradients(out);
    }
  });
}

size_t linear_cross_entropy_backward_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t,
                                               double, double, double, double, In, In, InOut, InOut, InOut dbias, bool,
                                               bool) {
  return workspace_bytes(machine, shape_of(hidden, weight, LossMode::gradient), backward_parts(dbias));
}

void linear_cross_entropy_train(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                double label_smoothing, double z_loss, double logit_scale, double softcap, In scale,
                                In row_weight, Out loss, Out argmax, InOut dhidden, InOut dweight, InOut dbias,
                                bool accumulate_dhidden, bool accumulate_dweight) {
  LossInputs in = {hidden,  weight, bias,
                   targets, limit,  options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  LossOutputs losses = {loss, {}, argmax, {}, {}};
  GradientOutputs out = {dhidden, dweight, dbias, accumulate_dhidden, accumulate_dweight};
  const float* weights = static_cast<const float*>(row_weight.data);
  with_dtype(hidden.dtype, [&](auto element) {
    LossPass<decltype(element)> pass(call, in, shape_of(hidden, weight, LossMode::both), train_parts(dbias));
    for (int64_t row = 0; row < pass.shape.rows; row += pass.shape.chunk) {
      pass.begin_chunk(row);
      pass.compute_statistics();
      pass.for_tokens([&](int64_t t, const TokenSummary& token) {
        float upstream = static_cast<const float*>(scale.data)[0] * (weights ? weights[row + t] : 1);
        float lse = token.offset + token.log_total;
        pass.write_outputs(losses, t, token);
        pass.set_gradient(t, upstream, token.offset, token.total, lse);
        pass.set_target_gradient(t, upstream, token.others / token.total, lse);
      });
      pass.compute_gradients(out);
      pass.finish_gradients(out);
    }
  });
}

size_t linear_cross_entropy_train_workspace(const Machine& machine, In hidden, In weight, In, In, In, int64_t, double,
                                            double, double, double, In, In, Out, Out, InOut, InOut, InOut dbias, bool,
                                            bool) {
  return workspace_bytes(machine, shape_of(hidden, weight, LossMode::both), train_parts(dbias));
}

}  // namespace

void fill_cross_entropy(Kernels& table) {
  table.linear_cross_entropy = {linear_cross_entropy, linear_cross_entropy_workspace};
  table.linear_cross_entropy_backward = {linear_cross_entropy_backward, linear_cross_entropy_backward_workspace};
  table.linear_cross_entropy_train = {linear_cross_entropy_train, linear_cross_entropy_train_workspace};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
