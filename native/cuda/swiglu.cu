// SwiGLU (arXiv 2002.05202) and its gradient. Formulas in ../cpu/generic/swiglu.cpp.
#include "failure.h"
#include "quad.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = kElementwiseThreads;

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// ---- swiglu: y = silu(gate)·up -------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kThreads)
    swiglu_kernel(const T* gate, const T* up, T* y /*all (count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  auto gated = [](float x, float v) { return x * sigmoid(x) * v; };
  store_quad(y + i, map(gated, load_quad(gate + i, left), load_quad(up + i, left)), left);
}

void swiglu(const Call& call, In gate, In up, Out y) {
  const int64_t count = element_count(y);
  if (up.dtype != gate.dtype || y.dtype != gate.dtype) return report_failure("gate, up and y of different dtypes");
  dispatch({gate.dtype}, [&]<class T>(Element<T>) {
    launch(call, quad_blocks(count), kThreads, swiglu_kernel<T>, elements<T>(gate), elements<T>(up), elements<T>(y),
           count);
  });
}

// ---- gradient: silu(x) = x·s, silu'(x) = s·(1 + x·(1 − s)), s = sigmoid(x) -----------------------------------------

// A quad is read whole before any of it is written: outputs may be inputs.
template <class DY, class T, class D>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(const DY* dy, const T* gate, const T* up, D* dgate, D* dup /*all (count)*/, int64_t count) {
  const int64_t i = quad_index(), left = count - i;
  if (left <= 0) return;
  const Quad gradient = load_quad(dy + i, left), x = load_quad(gate + i, left), v = load_quad(up + i, left);
  const Quad s = map(sigmoid, x);
  auto of_gate = [](float g, float x, float v, float s) { return g * v * s * (1.0f + x * (1.0f - s)); };
  auto of_up = [](float g, float x, float s) { return g * x * s; };
  store_quad(dgate + i, map(of_gate, gradient, x, v, s), left);
  store_quad(dup + i, map(of_up, gradient, x, s), left);
}

// gate and up share a dtype, dgate and dup another. Only where gate is bf16 do dy and dgate have a choice.
void swiglu_backward(const Call& call, In dy, In gate, In up, Out dgate, Out dup) {
  const int64_t count = element_count(gate);
  if (up.dtype != gate.dtype || dup.dtype != dgate.dtype)
    return report_failure("gate and up, or dgate and dup, of different dtypes");
  dispatch({dy.dtype, gate.dtype, dgate.dtype}, [&]<class DY, class T, class D>(Element<DY>, Element<T>, Element<D>) {
    if constexpr (sizeof(DY) < sizeof(T) || sizeof(D) < sizeof(T)) {
      report_failure("dy or dgate in bf16 with gate in f32");
    } else {
      launch(call, quad_blocks(count), kThreads, swiglu_backward_kernel<DY, T, D>, elements<DY>(dy), elements<T>(gate),
             elements<T>(up), elements<D>(dgate), elements<D>(dup), count);
    }
  });
}

}  // namespace

void fill_swiglu(Kernels& table) {
  table.swiglu = {swiglu};
  table.swiglu_backward = {swiglu_backward};
}

}  // namespace foretoken::cuda
