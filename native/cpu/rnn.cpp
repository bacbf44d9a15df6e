// The tanh recurrence: one small product per time step with the weight packed once, all rows of the batch together.
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

struct RecurrentShape {
  DType dtype;
  int64_t B, T, d;

  explicit RecurrentShape(const View& h) : dtype(h.dtype), B(h.shape[0]), T(h.shape[1]), d(h.shape[2]) {}
  // Row b of time step t.
  int64_t row(int64_t b, int64_t t) const { return (b * T + t) * d; }
  int64_t stride() const { return T * d; }  // between rows of one time step
};

void* at(const View& view, int64_t offset) {
  return static_cast<char*>(view.data) + offset * bytes_per_element(view.dtype);
}

// A block of a (rows × columns) result, and its number of rows and columns.
struct ResultBlock {
  int64_t row, column, rows, columns;
};

// body(block, worker) over blocks of height × width.
template <class Body>
void for_result_blocks(const Call& call, int64_t rows, int64_t columns, int64_t height, int64_t width, Body body) {
  int64_t across = (columns + width - 1) / width, down = (rows + height - 1) / height;
  parallel_for(call, across * down, [&](int64_t task, int worker) {
    ResultBlock block{task / across * height, task % across * width, height, width};
    if (block.row + block.rows > rows) block.rows = rows - block.row;
    if (block.column + block.columns > columns) block.columns = columns - block.column;
    body(block, worker);
  });
}

constexpr int64_t kStepRows = 32, kStepColumns = 64;

void pack_weight(const Call& call, const RecurrentShape& n, const In& weight, bool transposed, void* packed) {
  Matrix matrix{weight.data, n.dtype, n.d, n.d, n.d, transposed};
  for_result_blocks(call, 1, n.d, 1, kStepColumns, [&](ResultBlock block, int) {
    pack_b(matrix, block.column, block.column + block.columns, packed);
  });
}

// finish(sums + i, b, j, count) for every vector of states·packed, states the rows of one time step or nullptr: zeros.
template <class Finish>
void step(const Call& call, const RecurrentShape& n, const void* states, int64_t stride, const void* packed,
          Finish finish) {
  for_result_blocks(call, n.B, n.d, kStepRows, kStepColumns, [&](ResultBlock block, int) {
    alignas(64) float sums[kStepRows * kStepColumns] = {};
    if (states)
      gemm_block(n.dtype, static_cast<const char*>(states) + block.row * stride * bytes_per_element(n.dtype), stride,
                 packed_panel(n.dtype, packed, n.d, block.column), block.rows, block.columns, n.d, sums, kStepColumns,
                 false);
    for (int64_t r = 0; r < block.rows; r++)
      for (int64_t j = 0; j < block.columns; j += kWidth)
        finish(load(sums + r * kStepColumns + j), block.row + r, block.column + j, block.columns - j);
  });
}

// ---- rnn: h_t = tanh(a_t + weight·h_{t−1}) --------------------------------------------------------------------------

// a where x < limit, else b.
Vec where_below(Vec x, float limit, Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, broadcast(limit), _CMP_LT_OQ), b, a);
#else
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, broadcast(limit), _CMP_LT_OQ));
#endif
}

// To 2 ulp. Small x by Cephes' polynomial, others by 1 − 2/(e²ˣ + 1) of |x|, which does not cancel there. NaN stays
// NaN.
Vec tanh(Vec x) {
  Vec z = mul(x, x);
  Vec p = broadcast(-5.70498872745e-3f);
  p = fma(p, z, broadcast(2.06390887954e-2f));
  p = fma(p, z, broadcast(-5.37397155531e-2f));
  p = fma(p, z, broadcast(1.33314422036e-1f));
  p = fma(p, z, broadcast(-3.33332819422e-1f));
  Vec small = fma(mul(p, z), x, x);
  Vec size = max(sub(zero(), x), x);
  Vec large = sub(broadcast(1.0f), div(broadcast(2.0f), add(exp(add(size, size)), broadcast(1.0f))));
  return where_below(size, 0.625f, small, where_below(x, 0, sub(zero(), large), large));
}

template <class S>
void forward(const Call& call, const In& a, const In& weight, const In& h0, const Out& h) {
  RecurrentShape n(h);
  pack_weight(call, n, weight, true, call.workspace);
  const void* previous = h0.data;
  int64_t stride = n.d;
  for (int64_t t = 0; t < n.T; t++) {
    step(call, n, previous, stride, call.workspace, [&](Vec sum, int64_t b, int64_t j, int64_t count) {
      const S* input = static_cast<const S*>(at(a, n.row(b, t))) + j;
      store_n(static_cast<S*>(at(h, n.row(b, t))) + j, tanh(add(load_n(input, count), sum)), count);
    });
    previous = at(h, n.row(0, t));
    stride = n.stride();
  }
}

size_t rnn_workspace(const Machine&, In, In, In, Out h) {
  RecurrentShape n(h);
  return packed_bytes(n.dtype, n.d, n.d);
}

void rnn(const Call& call, In a, In weight, In h0, Out h) {
  h.dtype == DType::bf16 ? forward<bf16>(call, a, weight, h0, h) : forward<float>(call, a, weight, h0, h);
}

// ---- rnn backward: da_t = (dh_t + weightᵀ·da_{t+1})·(1 − h_t²), dweight = Σ_{b,t} da_t·h_{t−1}ᵀ ---------------------

template <class S>
void states_backward(const Call& call, const RecurrentShape& n, const In& dh, const In& h, const In& weight,
                     const Out& da) {
  pack_weight(call, n, weight, false, call.workspace);
  for (int64_t t = n.T - 1; t >= 0; t--) {
    const void* next = t + 1 < n.T ? at(da, n.row(0, t + 1)) : nullptr;
    step(call, n, next, n.stride(), call.workspace, [&](Vec sum, int64_t b, int64_t j, int64_t count) {
      Vec state = load_n(static_cast<const S*>(at(h, n.row(b, t))) + j, count);
      Vec slope = sub(broadcast(1.0f), mul(state, state));
      Vec gradient = add(load_n(static_cast<const S*>(at(dh, n.row(b, t))) + j, count), sum);
      store_n(static_cast<S*>(at(da, n.row(b, t))) + j, mul(gradient, slope), count);
    });
  }
}

// dweight is cut into blocks; each goes through all rows b and their time steps in order, kDepth at a time.
constexpr int64_t kWeightRows = 64, kWeightColumns = 128, kDepth = 256;

struct WeightScratch {
  void *gradients, *states;  // da turned (kWeightRows × kDepth), h packed (kDepth × kWeightColumns)
};

size_t gradients_bytes(DType dtype) { return kWeightRows * kDepth * bytes_per_element(dtype); }
size_t weight_scratch_bytes(DType dtype) {
  return gradients_bytes(dtype) + packed_bytes(dtype, kDepth, kWeightColumns);
}

// The block of dweight += Σ_k gradients[k]·states[k]ᵀ over `count` rows, each `stride` apart.
void add_outer_products(const RecurrentShape& n, const ResultBlock& block, const void* gradients,
                        int64_t gradient_stride, const void* states, int64_t state_stride, int64_t count,
                        const WeightScratch& scratch, float* dweight) {
  int64_t element = bytes_per_element(n.dtype);
  for (int64_t k = 0; k < count; k += kDepth) {
    int64_t depth = count - k < kDepth ? count - k : kDepth;
    const char* left = static_cast<const char*>(gradients) + (k * gradient_stride + block.row) * element;
    const char* right = static_cast<const char*>(states) + (k * state_stride + block.column) * element;
    transpose(n.dtype, left, gradient_stride, depth, block.rows, scratch.gradients, kDepth);
    pack_b({right, n.dtype, depth, block.columns, state_stride, false}, 0, block.columns, scratch.states);
    gemm_block(n.dtype, scratch.gradients, kDepth, scratch.states, block.rows, block.columns, depth,
               dweight + block.row * n.d + block.column, n.d, true);
  }
}

void weight_backward(const Call& call, const RecurrentShape& n, const View& da, const In& h, const In& h0,
                     float* dweight, bool accumulate) {
  for_result_blocks(call, n.d, n.d, kWeightRows, kWeightColumns, [&](ResultBlock block, int worker) {
    char* mine = static_cast<char*>(call.workspace) + worker * weight_scratch_bytes(n.dtype);
    WeightScratch scratch{mine, mine + gradients_bytes(n.dtype)};
    for (int64_t i = block.row; !accumulate && i < block.row + block.rows; i++)
      __builtin_memset(dweight + i * n.d + block.column, 0, block.columns * sizeof(float));
    if (given(h0)) add_outer_products(n, block, da.data, n.stride(), h0.data, n.d, n.B, scratch, dweight);
    for (int64_t b = 0; b < n.B; b++)
      add_outer_products(n, block, at(da, n.row(b, 1)), n.d, at(h, n.row(b, 0)), n.d, n.T - 1, scratch, dweight);
  });
}

// First the packed weight, then, in its place, what the workers need.
size_t rnn_backward_workspace(const Machine& machine, In, In h, In, In, Out, InOut, bool) {
  RecurrentShape n(h);
  size_t weight = packed_bytes(n.dtype, n.d, n.d), scratch = machine.threads * weight_scratch_bytes(n.dtype);
  return weight > scratch ? weight : scratch;
}

void rnn_backward(const Call& call, In dh, In h, In weight, In h0, Out da, InOut dweight, bool accumulate) {
  RecurrentShape n(h);
  if (n.dtype == DType::bf16)
    states_backward<bf16>(call, n, dh, h, weight, da);
  else
    states_backward<float>(call, n, dh, h, weight, da);
  weight_backward(call, n, da, h, h0, static_cast<float*>(dweight.data), accumulate);
}

}  // namespace

void fill_rnn(Kernels& table) {
  table.rnn = {rnn, rnn_workspace};
  table.rnn_backward = {rnn_backward, rnn_backward_workspace};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
