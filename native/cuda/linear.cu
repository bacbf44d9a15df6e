// Products with a weight, their gradients, and weight packing: the table entries, and the gradient of the bias.
#include "launch.cuh"
#include "linear.h"
#include "table.h"

namespace foretoken::cuda {

// ---- gradient of the bias -------------------------------------------------------------------------------------------

constexpr int kLanes = 16;  // rows summed side by side

// A block sums 32 columns: lane i the rows i, i + kLanes, …; then the lanes in order. One order for every M.
template <class T>
__global__ void __launch_bounds__(kWarp* kLanes)
    sum_columns_kernel(const T* dy /*(rows,columns)*/, float* dbias /*(columns)*/, int64_t rows, int64_t columns,
                       bool accumulate) {
  __shared__ float sums[kLanes][kWarp];
  int64_t column = int64_t{blockIdx.x} * kWarp + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t row = threadIdx.y; row < rows; row += kLanes) sum += value_of(dy[row * columns + column]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  float total = accumulate ? dbias[column] : 0;
#pragma unroll
  for (int lane = 0; lane < kLanes; lane++) total += sums[lane][threadIdx.x];
  dbias[column] = total;
}

void sum_columns(const Call& call, const In& dy, const InOut& dbias, bool accumulate) {
  dispatch({dy.dtype}, [&]<class T>(Element<T>) {
    int64_t columns = last_dimension(dy);
    auto blocks = static_cast<unsigned>(ceil_div(columns, kWarp));
    if (blocks > 0)
      sum_columns_kernel<<<blocks, dim3(kWarp, kLanes), 0, stream_of(call)>>>(elements<T>(dy), elements<float>(dbias),
                                                                              row_count(dy), columns, accumulate);
  });
}

// ---- packing --------------------------------------------------------------------------------------------------------

// The tensor cores read a row-major weight as fast as any other order: packed is a copy.
int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k) { return n * k * bytes_per_element(dtype); }

static void pack_weight(const Call& call, In weight, Out packed) {
  auto bytes = static_cast<size_t>(element_count(weight) * bytes_per_element(weight.dtype));
  cudaMemcpyAsync(packed.data, weight.data, bytes, cudaMemcpyDeviceToDevice, stream_of(call));
}

void fill_linear(Kernels& table) {
  table.linear = {linear<multiply>};
  table.linear_backward_input = {linear_backward_input<multiply>};
  table.linear_backward_weight = {linear_backward_weight<multiply>};
  table.pack_weight = {pack_weight};
}

}  // namespace foretoken::cuda
