// The tanh recurrence and its gradient through time as plain loops: the specification.
#include <cmath>

#include "dispatch.h"

namespace foretoken::generic {
namespace {

struct RecurrentShape {
  int64_t B, T, d;
  explicit RecurrentShape(const View& h) : B(h.shape[0]), T(h.shape[1]), d(h.shape[2]) {}
};

// ---- rnn: h_t = tanh(a_t + weight·h_{t−1}) --------------------------------------------------------------------------

// The state is fed back as stored, so that what backward reads from h is what forward computed with.
void rnn(const Call& call, In a, In weight, In h0, Out h) {
  dispatch(a.dtype, [&]<class T>(Element<T>) {
    using A = Arithmetic<T>;
    RecurrentShape n(h);
    parallel_for(call, n.B, [=](int64_t b, int) {
      const T* previous = given(h0) ? elements<T>(h0) + b * n.d : nullptr;
      for (int64_t t = 0; t < n.T; t++) {
        const T* input = elements<T>(a) + (b * n.T + t) * n.d;
        T* state = elements<T>(h) + (b * n.T + t) * n.d;
        for (int64_t i = 0; i < n.d; i++) {
          A sum = 0;
          for (int64_t j = 0; previous && j < n.d; j++)
            sum += value_of(elements<T>(weight)[i * n.d + j]) * value_of(previous[j]);
          store_scalar(state + i, std::tanh(value_of(input[i]) + sum));
        }
        previous = state;
      }
    });
  });
}

// ---- rnn backward: da_t = (dh_t + weightᵀ·da_{t+1})·(1 − h_t²), dweight = Σ_{b,t} da_t·h_{t−1}ᵀ ---------------------

template <class T>
void states_backward(const Call& call, RecurrentShape n, const T* dh, const T* h, const T* weight, T* da) {
  using A = Arithmetic<T>;
  parallel_for(call, n.B, [=](int64_t b, int) {
    for (int64_t t = n.T - 1; t >= 0; t--) {
      int64_t row = (b * n.T + t) * n.d;
      const T* next = t + 1 < n.T ? da + row + n.d : nullptr;
      for (int64_t j = 0; j < n.d; j++) {
        A sum = 0;
        for (int64_t i = 0; next && i < n.d; i++) sum += value_of(weight[i * n.d + j]) * value_of(next[i]);
        A state = value_of(h[row + j]);
        store_scalar(da + row + j, (value_of(dh[row + j]) + sum) * (1 - state * state));
      }
    }
  });
}

template <class T, class A = Arithmetic<T>>
void weight_backward(const Call& call, RecurrentShape n, const T* da, const T* h, const T* h0, A* dweight,
                     bool accumulate) {
  parallel_for(call, n.d, [=](int64_t i, int) {
    for (int64_t j = 0; j < n.d; j++) {
      A sum = accumulate ? dweight[i * n.d + j] : A(0);
      for (int64_t b = 0; b < n.B; b++) {
        for (int64_t t = 0; t < n.T; t++) {
          int64_t row = (b * n.T + t) * n.d;
          A previous = t ? value_of(h[row - n.d + j]) : h0 ? value_of(h0[b * n.d + j]) : A(0);
          sum += value_of(da[row + i]) * previous;
        }
      }
      dweight[i * n.d + j] = sum;
    }
  });
}

void rnn_backward(const Call& call, In dh, In h, In weight, In h0, Out da, InOut dweight, bool accumulate) {
  dispatch(h.dtype, [&]<class T>(Element<T>) {
    RecurrentShape n(h);
    states_backward(call, n, elements<T>(dh), elements<T>(h), elements<T>(weight), elements<T>(da));
    weight_backward<T>(call, n, elements<T>(da), elements<T>(h), elements<T>(h0), elements<Arithmetic<T>>(dweight),
                       accumulate);
  });
}

}  // namespace

void fill_rnn(Kernels& table) {
  table.rnn = {rnn};
  table.rnn_backward = {rnn_backward};
}

}  // namespace foretoken::generic
