// Gradient norm and AdamW over lists of tensors. Formulas in ../cpu/generic/optimizer.cpp and ../cpu/optimizer.h.
#include "quad.cuh"
#include "reduce.cuh"
#include "table.h"
#include "tensor_list.cuh"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = kListThreads;

// ---- gradient_norm: √Σ g², one sum a block, then the blocks in order ------------------------------------------------

struct Gradient {
  const void* data;
  DType dtype;
};

// In double, where the square of any float fits.
template <class G>
__device__ double square_sum(const G* g, ListPlace place) {
  double sum = 0;
  for (int64_t i = place.first + kQuad * threadIdx.x; i < place.last; i += kQuad * kThreads) {
    const Quad x = load_quad(g + i, place.last - i);
#pragma unroll
    for (int k = 0; k < kQuad; k++) sum += static_cast<double>(x.v[k]) * x.v[k];
  }
  return block_reduce(sum, Sum());
}

__global__ void __launch_bounds__(kThreads)
    square_sums_kernel(const __grid_constant__ ListPiece<Gradient> piece, double* sums /*(blocks of the piece)*/) {
  const ListPlace place = piece.place(blockIdx.x);
  const Gradient& g = piece.items[place.tensor];
  const double sum = g.dtype == DType::bf16 ? square_sum(static_cast<const __nv_bfloat16*>(g.data), place)
                                            : square_sum(static_cast<const float*>(g.data), place);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

constexpr int kNormThreads = 1024;

__global__ void __launch_bounds__(kNormThreads)
    gradient_norm_kernel(const double* sums /*(blocks)*/, int64_t blocks, float* norm /*(1)*/) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kNormThreads) sum += sums[i];
  sum = block_reduce(sum, Sum());
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

void gradient_norm(const Call& call, InList grads, Out norm) {
  double* sums = static_cast<double*>(call.workspace);
  int64_t blocks = 0;
  for_each_piece<Gradient>(
      grads.count, [=](int64_t i) { return Gradient{grads.data[i].data, grads.data[i].dtype}; },
      [=](int64_t i) { return element_count(grads.data[i]); },
      [&](const ListPiece<Gradient>& piece) {
        launch(call, piece.blocks, kThreads, square_sums_kernel, piece, sums + blocks);
        blocks += piece.blocks;
      });
  launch(call, 1, kNormThreads, gradient_norm_kernel, sums, blocks, elements<float>(norm));
}

size_t gradient_norm_workspace(const Machine&, InList grads, Out) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < grads.count; i++) blocks += ceil_div(element_count(grads.data[i]), kListBlock);
  return blocks * sizeof(double);
}

// ---- adamw: what every element needs to know about the step ---------------------------------------------------------

struct AdamwStep {
  double learning_rate;
  float clip;    // gradients are multiplied by it
  float rate;    // learning rate / (1 − beta1^step)
  float spread;  // 1 / √(1 − beta2^step): √v̂ = √v · spread
  int32_t allowed;
};

// xⁿ by squaring.
__device__ double integer_power(double x, int64_t n) {
  double power = 1.0;
  for (; n > 0; n /= 2, x *= x)
    if (n % 2) power *= x;
  return power;
}

// One thread. A refusal is noted in status[1].
__global__ void adamw_step_kernel(const float* state /*(4)*/, const float* norm /*(1)*/, int32_t* status /*(4)*/,
                                  double beta1, double beta2, double clip_norm, AdamwStep* step) {
  const double learning_rate = state[0], clip = clip_norm / (*norm + 1e-6);
  const int64_t number = static_cast<int64_t>(state[1]);
  step->learning_rate = learning_rate;
  step->clip = static_cast<float>(clip_norm == 0 || clip > 1 ? 1.0 : clip);
  step->rate = static_cast<float>(learning_rate / (1.0 - integer_power(beta1, number)));
  step->spread = static_cast<float>(1.0 / sqrt(1.0 - integer_power(beta2, number)));
  step->allowed = isfinite(*norm) && status[0] == 0;
  if (!step->allowed) status[1] = 1;
}

// ---- adamw: the elements -------------------------------------------------------------------------------------------

struct Parameter {
  void* p;  // f32 or bf16
  const float* g;
  float *m, *v;
  __nv_bfloat16* copy;  // or nullptr
  float decay;
  DType dtype;  // of p
};

// The constants of one tensor's update.
struct Update {
  float keep;  // 1 − learning rate · decay
  float clip, beta1_complement, beta2, beta2_complement, rate, spread, eps;
};

// PyTorch's torch.optim.AdamW, in its order.
__device__ __forceinline__ void update_element(const Update& u, float gradient, float& param, float& m, float& v) {
  gradient *= u.clip;
  param *= u.keep;
  m += (gradient - m) * u.beta1_complement;
  v = v * u.beta2 + gradient * gradient * u.beta2_complement;
  const float denominator = sqrtf(v) * u.spread + u.eps;
  param -= u.rate * (m / denominator);
}

template <class P>
__device__ void update_block(const Parameter& tensor, const Update& update, ListPlace place) {
  P* p = static_cast<P*>(tensor.p);
  for (int64_t i = place.first + kQuad * threadIdx.x; i < place.last; i += kQuad * kThreads) {
    const int64_t left = place.last - i;
    const Quad gradient = load_quad(tensor.g + i, left);
    Quad param = load_quad(p + i, left), m = load_quad(tensor.m + i, left), v = load_quad(tensor.v + i, left);
#pragma unroll
    for (int k = 0; k < kQuad; k++) update_element(update, gradient.v[k], param.v[k], m.v[k], v.v[k]);
    store_quad(p + i, param, left);
    store_quad(tensor.m + i, m, left);
    store_quad(tensor.v + i, v, left);
    if (tensor.copy) store_quad(tensor.copy + i, param, left);
  }
}

// `update` comes with what the host knows and gets the rest from `step`.
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ ListPiece<Parameter> piece, const AdamwStep* step, Update update) {
  if (!step->allowed) return;
  const ListPlace place = piece.place(blockIdx.x);
  const Parameter& tensor = piece.items[place.tensor];
  update.keep = static_cast<float>(1.0 - step->learning_rate * tensor.decay);
  update.clip = step->clip;
  update.rate = step->rate;
  update.spread = step->spread;
  if (tensor.dtype == DType::bf16)
    update_block<__nv_bfloat16>(tensor, update, place);
  else
    update_block<float>(tensor, update, place);
}

void adamw(const Call& call, InOutList params, InList grads, InOutList m, InOutList v, InOutList compute, Floats decay,
           In state, In norm, InOut status, double beta1, double beta2, double eps, double clip_norm) {
  AdamwStep* step = static_cast<AdamwStep*>(call.workspace);
  launch(call, 1, 1, adamw_step_kernel, elements<float>(state), elements<float>(norm), elements<int32_t>(status), beta1,
         beta2, clip_norm, step);
  Update update = {};
  update.beta1_complement = static_cast<float>(1 - beta1);
  update.beta2 = static_cast<float>(beta2);
  update.beta2_complement = static_cast<float>(1 - beta2);
  update.eps = static_cast<float>(eps);
  auto parameter = [=](int64_t i) {
    return Parameter{params.data[i].data,
                     elements<float>(grads.data[i]),
                     elements<float>(m.data[i]),
                     elements<float>(v.data[i]),
                     i < compute.count ? elements<__nv_bfloat16>(compute.data[i]) : nullptr,
                     decay.data[i],
                     params.data[i].dtype};
  };
  for_each_piece<Parameter>(
      params.count, parameter, [=](int64_t i) { return element_count(params.data[i]); },
      [&](const ListPiece<Parameter>& piece) {
        launch(call, piece.blocks, kThreads, adamw_kernel, piece, step, update);
      });
}

size_t adamw_workspace(const Machine&, InOutList, InList, InOutList, InOutList, InOutList, Floats, In, In, InOut,
                       double, double, double, double) {
  return sizeof(AdamwStep);
}

}  // namespace

void fill_optimizer(Kernels& table) {
  table.gradient_norm = {gradient_norm, gradient_norm_workspace};
  table.adamw = {adamw, adamw_workspace};
}

}  // namespace foretoken::cuda
