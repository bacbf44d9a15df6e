// SwiGLU (arXiv 2002.05202) as plain loops: the specification.
#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {

template <class A>
static A sigmoid(A x) {
  return A(1) / (A(1) + std::exp(-x));
}

static void swiglu(const Call& call, In gate, In up, Out y) {
  dispatch_alike({gate.dtype, up.dtype, y.dtype}, [&]<class G, class U, class Y>(Element<G>, Element<U>, Element<Y>) {
    const G* g = elements<G>(gate);
    const U* u = elements<U>(up);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) {
        auto x = value_of(g[i]);
        store_scalar(out + i, x * sigmoid(x) * value_of(u[i]));
      }
    });
  });
}

// silu(x) = x·s, silu'(x) = s·(1 + x·(1 − s)), s = sigmoid(x). gate and up share a dtype, dgate and dup another.
static void swiglu_backward(const Call& call, In dy, In gate, In up, Out dgate, Out dup) {
  dispatch_alike({dy.dtype, gate.dtype, dgate.dtype},
                 [&]<class DY, class T, class D>(Element<DY>, Element<T>, Element<D>) {
                   const DY* gradient = elements<DY>(dy);
                   const T *g = elements<T>(gate), *u = elements<T>(up);
                   D *gate_out = elements<D>(dgate), *up_out = elements<D>(dup);
                   for_blocks(call, element_count(gate), [=](int64_t first, int64_t last) {
                     for (int64_t i = first; i < last; i++) {
                       auto x = value_of(g[i]), v = value_of(u[i]), dv = value_of(gradient[i]), s = sigmoid(x);
                       store_scalar(gate_out + i, dv * v * s * (1 + x * (1 - s)));
                       store_scalar(up_out + i, dv * x * s);
                     }
                   });
                 });
}

void fill_swiglu(Kernels& table) {
  table.swiglu = {swiglu};
  table.swiglu_backward = {swiglu_backward};
}

}  // namespace foretoken::generic
