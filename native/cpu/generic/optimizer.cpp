// Gradient norm and AdamW as plain loops: the specification.
#include "../optimizer.h"

#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {

// norm = √Σ g²: one sum per block, then the blocks in order, all in double, where the square of any float fits.
static void gradient_norm(const Call& call, InList grads, Out norm) {
  double* sums = static_cast<double*>(call.workspace);
  int64_t blocks = list_blocks(grads);
  parallel_for(call, blocks, [&](int64_t task, int) {
    ListBlock block = list_block(grads, task);
    dispatch(grads.data[block.tensor].dtype, [&]<class G>(Element<G>) {
      const G* g = elements<G>(grads.data[block.tensor]);
      double sum = 0;
      for (int64_t i = block.first; i < block.last; i++) {
        double value = value_of(g[i]);
        sum += value * value;
      }
      sums[task] = sum;
    });
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; block++) total += sums[block];
  dispatch(norm.dtype, [&]<class N>(Element<N>) { store_scalar(elements<N>(norm), std::sqrt(total)); });
}

static size_t gradient_norm_workspace(const Machine&, InList grads, Out) { return list_blocks(grads) * sizeof(double); }

// The constants of one tensor's update, in the arithmetic of its elements.
template <class A>
struct Update {
  A keep;  // 1 − learning rate · decay
  A clip, beta1_complement, beta2, beta2_complement, rate, spread, eps;
};

// PyTorch's torch.optim.AdamW, in its order.
template <class A>
static void update_element(const Update<A>& u, A gradient, A& param, A& m, A& v) {
  gradient *= u.clip;
  param *= u.keep;
  m += (gradient - m) * u.beta1_complement;
  v = v * u.beta2 + gradient * gradient * u.beta2_complement;
  A denominator = std::sqrt(v) * u.spread + u.eps;
  param -= u.rate * (m / denominator);
}

static void adamw(const Call& call, InOutList params, InList grads, InOutList m, InOutList v, InOutList compute,
                  Floats decay, In state, In norm, InOut status, double beta1, double beta2, double eps,
                  double clip_norm) {
  if (!adamw_allowed(norm, status)) return;
  AdamwStep step = adamw_step(state, norm, beta1, beta2, clip_norm);
  parallel_for(call, list_blocks(params), [&](int64_t task, int) {
    ListBlock block = list_block(params, task);
    int64_t tensor = block.tensor;
    dispatch(params.data[tensor].dtype, [&]<class P>(Element<P>) {
      using A = Arithmetic<P>;
      auto arithmetic = [](double x) { return static_cast<A>(x); };
      Update<A> update = {arithmetic(1 - step.learning_rate * decay.data[tensor]),
                          arithmetic(step.clip),
                          arithmetic(1 - beta1),
                          arithmetic(beta2),
                          arithmetic(1 - beta2),
                          arithmetic(step.rate),
                          arithmetic(step.spread),
                          arithmetic(eps)};
      P* p = elements<P>(params.data[tensor]);
      const A* g = elements<A>(grads.data[tensor]);
      A *first = elements<A>(m.data[tensor]), *second = elements<A>(v.data[tensor]);
      bf16* copy = tensor < compute.count ? elements<bf16>(compute.data[tensor]) : nullptr;
      for (int64_t i = block.first; i < block.last; i++) {
        A param = value_of(p[i]);
        update_element(update, g[i], param, first[i], second[i]);
        store_scalar(p + i, param);
        if (copy) store_scalar(copy + i, param);
      }
    });
  });
}

void fill_optimizer(Kernels& table) {
  table.gradient_norm = {gradient_norm, gradient_norm_workspace};
  table.adamw = {adamw};
}

}  // namespace foretoken::generic
