// The tanh recurrence and its gradient through time. Formulas in ../cpu/generic/rnn.cpp.
//
// One block a sequence, which goes through time on its own; the states in global memory, as stored, are what the next
// step reads. The products with the weight come from the L2 cache.
#include "quad.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

struct RecurrentShape {
  int64_t B, T, d;
  explicit RecurrentShape(const View& h) : B(h.shape[0]), T(h.shape[1]), d(h.shape[2]) {}
};

// ---- one step ------------------------------------------------------------------------------------------------------

constexpr int kOutputs = 4;  // of a warp at a time, so that the state is read once for all of them

int step_threads(int64_t d) {
  const int64_t warps = ceil_div(d, kOutputs), most = kMostThreads / kWarp;
  return static_cast<int>(warps < most ? warps : most) * kWarp;
}

// finish(i, Σ_j weight[i,j]·x[j]) for every i < d, each by one lane of the block. x (d) may be nullptr: zeros.
template <class T, class Finish>
__device__ void multiply_state(const T* weight /*(d,d)*/, const T* x, int64_t d, Finish finish) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  for (int64_t i = warp * kOutputs; i < d; i += warps * kOutputs) {
    float sums[kOutputs] = {};
    for (int64_t j = kQuad * lane; x && j < d; j += kQuad * kWarp) {
      const Quad state = load_quad(x + j, d - j);
#pragma unroll
      for (int k = 0; k < kOutputs; k++)
        if (i + k < d) sums[k] = dot(load_quad(weight + (i + k) * d + j, d - j), state, sums[k]);
    }
    float mine = 0;  // lane k finishes output k
#pragma unroll
    for (int k = 0; k < kOutputs; k++) {
      const float sum = warp_sum(sums[k]);
      if (lane == k) mine = sum;
    }
    if (lane < kOutputs && i + lane < d) finish(i + lane, mine);
  }
}

// ---- rnn: h_t = tanh(a_t + weight·h_{t−1}) --------------------------------------------------------------------------

// h may be a.
template <class T>
__global__ void __launch_bounds__(kMostThreads, 1)
    rnn_kernel(const T* a /*(B,T,d)*/, const T* weight /*(d,d)*/, const T* h0 /*(B,d) or nullptr*/, T* h /*(B,T,d)*/,
               RecurrentShape n) {
  const int64_t b = blockIdx.x;
  const T* previous = h0 ? h0 + b * n.d : nullptr;
  for (int64_t t = 0; t < n.T; t++) {
    const T* input = a + (b * n.T + t) * n.d;
    T* state = h + (b * n.T + t) * n.d;
    multiply_state(weight, previous, n.d,
                   [=](int64_t i, float sum) { store_value(state + i, tanhf(value_of(input[i]) + sum)); });
    __syncthreads();  // the next step reads the whole state
    previous = state;
  }
}

void rnn(const Call& call, In a, In weight, In h0, Out h) {
  const RecurrentShape n(h);
  dispatch({a.dtype}, [&]<class T>(Element<T>) {
    launch(call, n.B, step_threads(n.d), rnn_kernel<T>, elements<T>(a), elements<T>(weight), elements<T>(h0),
           elements<T>(h), n);
  });
}

// ---- transposed weight ---------------------------------------------------------------------------------------------

constexpr int kTile = 32, kTileRows = 8;  // a block: kTile × kTileRows threads

template <class T>
__global__ void __launch_bounds__(kTile* kTileRows) transpose_kernel(const T* x, T* y /*both (d,d)*/, int64_t d) {
  __shared__ T tile[kTile][kTile + 4 / sizeof(T)];  // a row is an odd number of banks
  const int column = threadIdx.x % kTile, row = threadIdx.x / kTile;
  const int64_t top = int64_t{blockIdx.y} * kTile, left = int64_t{blockIdx.x} * kTile;
  for (int k = row; k < kTile; k += kTileRows)
    if (top + k < d && left + column < d) tile[k][column] = x[(top + k) * d + left + column];
  __syncthreads();
  for (int k = row; k < kTile; k += kTileRows)
    if (left + k < d && top + column < d) y[(left + k) * d + top + column] = tile[column][k];
}

// ---- gradient of the states: da_t = (dh_t + weightᵀ·da_{t+1})·(1 − h_t²) --------------------------------------------

// da may be dh.
template <class T>
__global__ void __launch_bounds__(kMostThreads, 1)
    rnn_states_backward_kernel(const T* dh /*(B,T,d)*/, const T* h /*(B,T,d)*/, const T* transposed /*(d,d)*/,
                               T* da /*(B,T,d)*/, RecurrentShape n) {
  const T* next = nullptr;
  for (int64_t t = n.T - 1; t >= 0; t--) {
    const int64_t row = (blockIdx.x * n.T + t) * n.d;
    multiply_state(transposed, next, n.d, [=](int64_t i, float sum) {
      const float state = value_of(h[row + i]);
      store_value(da + row + i, (value_of(dh[row + i]) + sum) * (1.0f - state * state));
    });
    __syncthreads();  // the next step reads the whole gradient
    next = da + row;
  }
}

// ---- gradient of weight: Σ_{b,t} da_t·h_{t−1}ᵀ, rows in order -------------------------------------------------------

// A block a tile of dweight; a thread kTile / kTileRows of its elements, one below the other.
template <class T>
__global__ void __launch_bounds__(kTile* kTileRows, 4)
    rnn_weight_backward_kernel(const T* da /*(B,T,d)*/, const T* h /*(B,T,d)*/, const T* h0 /*(B,d) or nullptr*/,
                               float* dweight /*(d,d)*/, RecurrentShape n, bool accumulate) {
  constexpr int kOwn = kTile / kTileRows;
  __shared__ float gradients[kTile][kTile], states[kTile][kTile];  // [row of B·T][i or j]
  const int column = threadIdx.x % kTile, first = threadIdx.x / kTile;
  const int64_t top = int64_t{blockIdx.y} * kTile, j = int64_t{blockIdx.x} * kTile + column, R = n.B * n.T;
  float sums[kOwn] = {};
#pragma unroll
  for (int k = 0; k < kOwn; k++) {
    const int64_t i = top + first + k * kTileRows;
    if (accumulate && i < n.d && j < n.d) sums[k] = dweight[i * n.d + j];
  }
  for (int64_t base = 0; base < R; base += kTile) {
    for (int k = first; k < kTile; k += kTileRows) {
      const int64_t row = base + k;
      float gradient = 0, state = 0;
      if (row < R && top + column < n.d) gradient = value_of(da[row * n.d + top + column]);
      if (row < R && j < n.d) {
        if (row % n.T > 0)
          state = value_of(h[(row - 1) * n.d + j]);
        else if (h0)
          state = value_of(h0[row / n.T * n.d + j]);
      }
      gradients[k][column] = gradient;
      states[k][column] = state;
    }
    __syncthreads();
    for (int row = 0; row < kTile; row++) {
      const float state = states[row][column];
#pragma unroll
      for (int k = 0; k < kOwn; k++) sums[k] = fmaf(gradients[row][first + k * kTileRows], state, sums[k]);
    }
    __syncthreads();  // before the tiles are written again
  }
#pragma unroll
  for (int k = 0; k < kOwn; k++) {
    const int64_t i = top + first + k * kTileRows;
    if (i < n.d && j < n.d) dweight[i * n.d + j] = sums[k];
  }
}

// ---- rnn_backward --------------------------------------------------------------------------------------------------

void rnn_backward(const Call& call, In dh, In h, In weight, In h0, Out da, InOut dweight, bool accumulate) {
  const RecurrentShape n(h);
  const int64_t tiles = ceil_div(n.d, kTile);
  dispatch({h.dtype}, [&]<class T>(Element<T>) {
    T* transposed = static_cast<T*>(call.workspace);
    launch(call, tiles, tiles, kTile * kTileRows, transpose_kernel<T>, elements<T>(weight), transposed, n.d);
    launch(call, n.B, step_threads(n.d), rnn_states_backward_kernel<T>, elements<T>(dh), elements<T>(h), transposed,
           elements<T>(da), n);
    launch(call, tiles, tiles, kTile * kTileRows, rnn_weight_backward_kernel<T>, elements<T>(da), elements<T>(h),
           elements<T>(h0), elements<float>(dweight), n, accumulate);
  });
}

size_t rnn_backward_workspace(const Machine&, In, In, In weight, In, Out, InOut, bool) {
  return element_count(weight) * bytes_per_element(weight.dtype);
}

}  // namespace

void fill_rnn(Kernels& table) {
  table.rnn = {rnn};
  table.rnn_backward = {rnn_backward, rnn_backward_workspace};
}

}  // namespace foretoken::cuda
