// SwiGLU of a SIMD level; formulas in generic/swiglu.cpp.
#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static inline Vec sigmoid(Vec x) {
  Vec one = broadcast(1.0f);
  return div(one, add(one, exp(sub(zero(), x))));
}

static void swiglu(const Call& call, In gate, In up, Out y) {
  dispatch_stored({gate.dtype, up.dtype, y.dtype}, [&]<class G, class U, class Y>(Element<G>, Element<U>, Element<Y>) {
    const G* g = elements<G>(gate);
    const U* u = elements<U>(up);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for_vectors(first, last, [=](int64_t i, auto lanes) {
        Vec x = load(g + i, lanes);
        store(out + i, mul(mul(x, sigmoid(x)), load(u + i, lanes)), lanes);
      });
    });
  });
}

static void swiglu_backward(const Call& call, In dy, In gate, In up, Out dgate, Out dup) {
  dispatch_stored(
      {dy.dtype, gate.dtype, dgate.dtype}, [&]<class DY, class T, class D>(Element<DY>, Element<T>, Element<D>) {
        const DY* gradient = elements<DY>(dy);
        const T *g = elements<T>(gate), *u = elements<T>(up);
        D *gate_out = elements<D>(dgate), *up_out = elements<D>(dup);
        for_blocks(call, element_count(gate), [=](int64_t first, int64_t last) {
          Vec one = broadcast(1.0f);
          for_vectors(first, last, [=](int64_t i, auto lanes) {
            Vec x = load(g + i, lanes), v = load(u + i, lanes), dv = load(gradient + i, lanes), s = sigmoid(x);
            Vec slope = mul(s, fma(x, sub(one, s), one));
            store(gate_out + i, mul(mul(dv, v), slope), lanes);
            store(up_out + i, mul(dv, mul(x, s)), lanes);
          });
        });
      });
}

void fill_swiglu(Kernels& table) {
  table.swiglu = {swiglu};
  table.swiglu_backward = {swiglu_backward};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
