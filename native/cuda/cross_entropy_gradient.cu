// The fused linear cross-entropy's gradients beside the products: rows scaled, and the exact entries of each row, added
// in fp32 from x and W.
#include "cross_entropy.h"
#include "failure.h"
#include "launch.cuh"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row. x, scaled (rows,d)
template <class Storage>
__global__ void __launch_bounds__(kThreads)
    scale_rows_kernel(const Storage* __restrict__ x, const float* factor, Storage* __restrict__ scaled, int64_t width) {
  float row_factor = factor[blockIdx.x];
  int64_t first = blockIdx.x * width;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    store_value(scaled + first + i, row_factor * value_of(x[first + i]));
}

// Entry number s, in the order of rows: entry s % entries of row s / entries.
struct ExactEntries {
  const int32_t* classes;  // (entries, stride)
  const float* gradients;
  int64_t stride, rows;
  int entries;

  __device__ __forceinline__ int64_t count() const { return rows * entries; }
  __device__ __forceinline__ int64_t row(int64_t s) const { return s / entries; }
  __device__ __forceinline__ int64_t at(int64_t s) const { return s % entries * stride + s / entries; }
  __device__ __forceinline__ int32_t class_of(int64_t s) const { return s < count() ? classes[at(s)] : -1; }
};

// The numbers of those entries among [first, first + kWindow) that belong to a class, in order.
constexpr int kWindow = 1024;
struct Matches {
  static constexpr int kRounds = kWindow / kThreads, kWarps = kThreads / kWarp;
  int counts[kRounds * kWarps];
  int list[kWindow];

  // Returns how many there are.
  __device__ int find(const ExactEntries& exact, int64_t first, int32_t wanted) {
    unsigned votes[kRounds];
    int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    __syncthreads();  // the last window's list is read
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
      bool match = exact.class_of(first + round * kThreads + threadIdx.x) == wanted;
      votes[round] = __ballot_sync(~0u, match);
      if (lane == 0) counts[round * kWarps + warp] = __popc(votes[round]);
    }
    __syncthreads();  // counts are there
    int total = 0;
    for (int i = 0; i < kRounds * kWarps; i++) {
      int round = i / kWarps;
      if (i % kWarps == warp && votes[round] >> lane & 1)
        list[total + __popc(votes[round] & ((1u << lane) - 1))] = round * kThreads + static_cast<int>(threadIdx.x);
      total += counts[i];
    }
    __syncthreads();  // the list is there
    return total;
  }
};

// The block of a class's first entry adds all its entries, so that each row of dweight has one writer and one order.
template <class Storage>
__global__ void __launch_bounds__(kThreads) add_exact_kernel(ExactEntries exact, const Storage* __restrict__ x,
                                                             float* __restrict__ dweight, float* dbias, int64_t width) {
  __shared__ Matches matches;
  int64_t own = blockIdx.x;
  int32_t wanted = exact.class_of(own);
  if (wanted < 0) return;
  for (int64_t last = own; last > 0; last -= kThreads) {
    int64_t s = last - 1 - threadIdx.x;
    if (__syncthreads_or(s >= 0 && exact.class_of(s) == wanted)) return;
  }
  for (int64_t first = own; first < exact.count(); first += kWindow) {
    int found = matches.find(exact, first, wanted);
    for (int64_t i = threadIdx.x; dweight && found > 0 && i < width; i += kThreads) {
      float* to = dweight + wanted * width + i;
      float sum = *to;
#pragma unroll 4
      for (int m = 0; m < found; m++) {
        int64_t s = first + matches.list[m];
        sum += exact.gradients[exact.at(s)] * value_of(x[exact.row(s) * width + i]);
      }
      *to = sum;
    }
    if (!dbias || threadIdx.x > 0) continue;
    for (int m = 0; m < found; m++) dbias[wanted] += exact.gradients[exact.at(first + matches.list[m])];
  }
}

// A block per row. sums, dhidden (rows,d), weight (V,d)
template <class Storage, class Gradient>
__global__ void __launch_bounds__(kThreads)
    finish_dhidden_kernel(ExactEntries exact, const float* __restrict__ sums, const Storage* __restrict__ weight,
                          Gradient* __restrict__ dhidden, int64_t width, bool accumulate) {
  int64_t row = blockIdx.x;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float sum = sums[row * width + i];
    for (int entry = 0; entry < exact.entries; entry++) {
      int64_t at = entry * exact.stride + row;
      int32_t v = exact.classes[at];
      if (v >= 0) sum += exact.gradients[at] * value_of(weight[v * width + i]);
    }
    Gradient* to = dhidden + row * width + i;
    store_value(to, accumulate ? value_of(*to) + sum : sum);
  }
}

// class_sums (row_blocks, stride)
__global__ void __launch_bounds__(kThreads)
    reduce_class_sums_kernel(const float* class_sums, int64_t row_blocks, int64_t stride, float* dbias, int64_t classes,
                             bool accumulate) {
  int64_t v = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (v >= classes) return;
  float sum = accumulate ? dbias[v] : 0;
  for (int64_t block = 0; block < row_blocks; block++) sum += class_sums[block * stride + v];
  dbias[v] = sum;
}

ExactEntries exact_entries(const Logits& logits, int64_t entries) {
  return {logits.row.exact_class, logits.row.exact_gradient, logits.partial_stride, logits.rows,
          static_cast<int>(entries)};
}

}  // namespace

void scale_rows(const Call& call, const Logits& logits, void* scaled) {
  dispatch({logits.dtype}, [&]<class Storage>(Element<Storage>) {
    launch(call, logits.rows, kThreads, scale_rows_kernel<Storage>, static_cast<const Storage*>(logits.hidden),
           logits.row.factor, static_cast<Storage*>(scaled), logits.width);
  });
}

void reduce_class_sums(const Call& call, const Logits& logits, float* dbias, bool accumulate) {
  launch(call, ceil_div(logits.classes, kThreads), kThreads, reduce_class_sums_kernel, logits.class_sums,
         ceil_div(logits.rows, kLogitBlock), logits.stride, dbias, logits.classes, accumulate);
}

void add_exact_to_weight(const Call& call, const Logits& logits, int64_t entries, float* dweight, float* dbias) {
  dispatch({logits.dtype}, [&]<class Storage>(Element<Storage>) {
    launch(call, logits.rows * entries, kThreads, add_exact_kernel<Storage>, exact_entries(logits, entries),
           static_cast<const Storage*>(logits.hidden), dweight, dbias, logits.width);
  });
}

void finish_dhidden(const Call& call, const Logits& logits, int64_t entries, const float* sums, const InOut& dhidden,
                    int64_t first_row, bool accumulate) {
  dispatch({logits.dtype, dhidden.dtype}, [&]<class Storage, class Gradient>(Element<Storage>, Element<Gradient>) {
    launch(call, logits.rows, kThreads, finish_dhidden_kernel<Storage, Gradient>, exact_entries(logits, entries), sums,
           static_cast<const Storage*>(logits.weight), elements<Gradient>(dhidden) + first_row * logits.width,
           logits.width, accumulate);
  });
}

void fill_zeros(const Call& call, const InOut& view) {
  if (!given(view)) return;
  size_t bytes = static_cast<size_t>(element_count(view) * bytes_per_element(view.dtype));
  if (cudaMemsetAsync(view.data, 0, bytes, stream_of(call)) != cudaSuccess)
    report_failure("a gradient could not be cleared");
}

}  // namespace foretoken::cuda
