// Gradient norm and AdamW of a SIMD level; formulas in generic/optimizer.cpp.
#include "optimizer.h"

#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static double sum_of_squares(const float* g, int64_t first, int64_t last) {
  DoubleSums even = zero_doubles(), odd = zero_doubles();
  int64_t i = first;
  for (; i + 2 * kWidth <= last; i += 2 * kWidth) {
    even = add_squares(even, load(g + i));
    odd = add_squares(odd, load(g + i + kWidth));
  }
  for_vectors(i, last, [&](int64_t j, auto lanes) { even = add_squares(even, load(g + j, lanes)); });
  return reduce_add(even) + reduce_add(odd);
}

static void gradient_norm(const Call& call, InList grads, Out norm) {
  double* sums = static_cast<double*>(call.workspace);
  int64_t blocks = list_blocks(grads);
  parallel_for(call, blocks, [&](int64_t task, int) {
    ListBlock block = list_block(grads, task);
    sums[task] = sum_of_squares(elements<float>(grads.data[block.tensor]), block.first, block.last);
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; block++) total += sums[block];
  *elements<float>(norm) = static_cast<float>(__builtin_sqrt(total));
}

// The constants of one tensor's update, in every lane.
struct Update {
  Vec keep;  // 1 − learning rate · decay
  Vec clip, beta1_complement, beta2, beta2_complement, rate, spread, eps;
};

static inline Vec updated(const Update& u, Vec gradient, Vec param, Vec& m, Vec& v) {
  gradient = mul(gradient, u.clip);
  m = fma(sub(gradient, m), u.beta1_complement, m);
  v = fma(v, u.beta2, mul(mul(gradient, gradient), u.beta2_complement));
  Vec denominator = fma(sqrt(v), u.spread, u.eps);
  return sub(mul(param, u.keep), mul(u.rate, div(m, denominator)));
}

static void adamw(const Call& call, InOutList params, InList grads, InOutList m, InOutList v, InOutList compute,
                  Floats decay, In state, In norm, InOut status, double beta1, double beta2, double eps,
                  double clip_norm) {
  if (!adamw_allowed(norm, status)) return;
  AdamwStep step = adamw_step(state, norm, beta1, beta2, clip_norm);
  parallel_for(call, list_blocks(params), [&](int64_t task, int) {
    ListBlock block = list_block(params, task);
    int64_t tensor = block.tensor;
    auto lanes_of = [](double x) { return broadcast(static_cast<float>(x)); };
    Update update = {lanes_of(1 - step.learning_rate * decay.data[tensor]),
                     lanes_of(step.clip),
                     lanes_of(1 - beta1),
                     lanes_of(beta2),
                     lanes_of(1 - beta2),
                     lanes_of(step.rate),
                     lanes_of(step.spread),
                     lanes_of(eps)};
    float* p = elements<float>(params.data[tensor]);
    const float* g = elements<float>(grads.data[tensor]);
    float *first = elements<float>(m.data[tensor]), *second = elements<float>(v.data[tensor]);
    bf16* copy = tensor < compute.count ? elements<bf16>(compute.data[tensor]) : nullptr;
    for_vectors(block.first, block.last, [&](int64_t i, auto lanes) {
      Vec moment = load(first + i, lanes), square = load(second + i, lanes);
      Vec param = updated(update, load(g + i, lanes), load(p + i, lanes), moment, square);
      store(first + i, moment, lanes);
      store(second + i, square, lanes);
      store(p + i, param, lanes);
      if (copy) store(copy + i, param, lanes);
    });
  });
}

void fill_optimizer(Kernels& table) {
  table.gradient_norm.run = gradient_norm;  // the generic level's workspace
  table.adamw.run = adamw;
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
