// Token embedding and its gradient, which sums a token's positions in their order.
#include "quad.cuh"
#include "reduce.cuh"
#include "table.h"
#include "workspace.h"

namespace foretoken::cuda {
namespace {

// Tokens (B,S), of which the first T columns belong to the rows (B·T,d) of y.
struct TokenRows {
  const int32_t* tokens;
  int64_t stored, used, vocabulary;  // S, T, V

  TokenRows(const In& tokens_, int64_t rows, int64_t vocabulary_)
      : tokens(elements<int32_t>(tokens_)), stored(last_dimension(tokens_)), vocabulary(vocabulary_) {
    const int64_t sequences = row_count(tokens_);
    used = sequences > 0 ? rows / sequences : 0;
  }
  __device__ int64_t of_row(int64_t row) const { return tokens[row / used * stored + row % used]; }
  __device__ bool known(int64_t token) const { return token >= 0 && token < vocabulary; }
};

// ---- embedding: y[row] = weight[token of row] ----------------------------------------------------------------------

constexpr int kThreads = 256;

// One warp a row.
template <class W, class Y>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(TokenRows tokens, const W* weight /*(V,d)*/, Y* y /*(R,d)*/, int32_t* status /*(4) or nullptr*/,
                     int64_t R, int64_t d) {
  const int64_t row = thread_index() / kWarp, lane = threadIdx.x % kWarp;
  if (row >= R) return;
  int64_t token = tokens.of_row(row);
  if (!tokens.known(token)) {
    if (status && lane == 0) atomicOr(status, 1);
    token = 0;
  }
  for (int64_t i = kQuad * lane; i < d; i += kQuad * kWarp)
    store_quad(y + row * d + i, load_quad(weight + token * d + i, d - i), d - i);
}

void embedding(const Call& call, In tokens, In weight, Out y, InOut status) {
  const int64_t R = row_count(y);
  dispatch({weight.dtype, y.dtype}, [&]<class W, class Y>(Element<W>, Element<Y>) {
    launch(call, ceil_div(R, kThreads / kWarp), kThreads, embedding_kernel<W, Y>,
           TokenRows(tokens, R, row_count(weight)), elements<W>(weight), elements<Y>(y), elements<int32_t>(status), R,
           last_dimension(weight));
  });
}

// ---- the rows of each token ----------------------------------------------------------------------------------------

// The rows sorted by token, those of one token in order. V stands for any unknown token.
struct Groups {
  int64_t* order;    // (R) the rows
  int64_t* length;   // (R) at the first row of a token: how many it has; 0 elsewhere
  int64_t* matched;  // (R) between the two steps of sorting
  int32_t* keys;     // (R) the token of a row

  Groups(Workspace& workspace, int64_t R)
      : order(workspace.take<int64_t>(R)),
        length(workspace.take<int64_t>(R)),
        matched(workspace.take<int64_t>(R)),
        keys(workspace.take<int32_t>(R)) {}
};

__global__ void __launch_bounds__(kThreads) token_keys_kernel(TokenRows tokens, Groups groups, int64_t R) {
  const int64_t row = thread_index();
  if (row >= R) return;
  const int64_t token = tokens.of_row(row);
  groups.keys[row] = static_cast<int32_t>(tokens.known(token) ? token : tokens.vocabulary);
}

// How many earlier threads of the block are chosen, too.
__device__ int chosen_before(bool chosen) {
  __shared__ int warps[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const unsigned ballot = __ballot_sync(~0u, chosen);
  if (lane == 0) warps[warp] = __popc(ballot);
  __syncthreads();
  int before = __popc(ballot & ((1u << lane) - 1));
  for (int i = 0; i < warp; i++) before += warps[i];
  __syncthreads();  // before `warps` is written again
  return before;
}

// A block sorts the rows of kThreads neighbouring tokens: first all of them in order, then each thread those of its
// own.
__global__ void __launch_bounds__(kThreads) group_rows_kernel(Groups groups, int64_t R) {
  const int64_t first = int64_t{blockIdx.x} * kThreads, token = first + threadIdx.x;
  int64_t start = 0;  // of this block's rows in the sorted list
  for (int64_t row = threadIdx.x; row < R; row += kThreads) start += groups.keys[row] < first;
  start = block_reduce(start, Sum());

  int64_t* matched = groups.matched + start;
  int64_t count = 0;
  for (int64_t base = 0; base < R; base += kThreads) {
    const int64_t row = base + threadIdx.x;
    const bool chosen = row < R && groups.keys[row] >= first && groups.keys[row] < first + kThreads;
    const int total = __syncthreads_count(chosen);
    if (total == 0) continue;
    const int before = chosen_before(chosen);
    if (chosen) matched[count + before] = row;
    count += total;
  }
  __syncthreads();  // `matched` is read by all

  __shared__ int64_t lengths[kThreads];
  int64_t length = 0;
  for (int64_t k = 0; k < count; k++) length += groups.keys[matched[k]] == token;
  lengths[threadIdx.x] = length;
  __syncthreads();
  int64_t place = start;
  for (int i = 0; i < threadIdx.x; i++) place += lengths[i];
  for (int64_t k = 0, found = 0; found < length; k++) {
    if (groups.keys[matched[k]] != token) continue;
    groups.order[place + found] = matched[k];
    groups.length[place + found] = found == 0 ? length : 0;
    found++;
  }
}

// ---- embedding_backward: dweight[v] += Σ dy[row] over the rows with token v
// ------------------------------------------

constexpr int kSumThreads = 64;

// A block a token: the one at the first of its rows in the sorted list.
template <class DY>
__global__ void __launch_bounds__(kSumThreads)
    embedding_backward_kernel(const DY* dy /*(R,d)*/, Groups groups, float* dweight /*(V,d)*/, int64_t vocabulary,
                              int64_t d) {
  const int64_t length = groups.length[blockIdx.x];
  if (length == 0) return;
  const int64_t* rows = groups.order + blockIdx.x;
  const int64_t token = groups.keys[rows[0]], i = kQuad * (int64_t{blockIdx.y} * kSumThreads + threadIdx.x);
  if (token == vocabulary || i >= d) return;
  Quad sum = load_quad(dweight + token * d + i, d - i);
#pragma unroll 4
  for (int64_t k = 0; k < length; k++)
    sum = map([](float a, float b) { return a + b; }, sum, load_quad(dy + rows[k] * d + i, d - i));
  store_quad(dweight + token * d + i, sum, d - i);
}

void embedding_backward(const Call& call, In dy, In tokens, InOut dweight, bool accumulate) {
  const int64_t R = row_count(dy), d = last_dimension(dy), V = row_count(dweight);
  if (!accumulate) cudaMemsetAsync(dweight.data, 0, element_count(dweight) * sizeof(float), stream_of(call));
  if (R == 0) return;
  Workspace workspace(call.workspace);
  const Groups groups(workspace, R);
  launch(call, ceil_div(R, kThreads), kThreads, token_keys_kernel, TokenRows(tokens, R, V), groups, R);
  launch(call, ceil_div(V + 1, kThreads), kThreads, group_rows_kernel, groups, R);
  dispatch({dy.dtype}, [&]<class DY>(Element<DY>) {
    launch(call, R, ceil_div(d, kQuad * kSumThreads), kSumThreads, embedding_backward_kernel<DY>, elements<DY>(dy),
           groups, elements<float>(dweight), V, d);
  });
}

size_t embedding_backward_workspace(const Machine&, In dy, In, InOut, bool) {
  Workspace workspace(nullptr);
  Groups(workspace, row_count(dy));
  return workspace.bytes();
}

}  // namespace

void fill_embedding(Kernels& table) {
  table.embedding = {embedding};
  table.embedding_backward = {embedding_backward, embedding_backward_workspace};
}

}  // namespace foretoken::cuda
