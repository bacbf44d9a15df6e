// d tiles of 64×64 by 128 threads. Factors pass through registers into shared memory, so that the next step's loads run
// under this step's arithmetic. Every access goes through strides: one kernel serves all orders.
#include "gemm_epilogue.cuh"
#include "gemm_plain.h"
#include "gemm_sm80.h"
#include "launch.cuh"
#include "ptx.cuh"

namespace foretoken::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kThreads = 128;

// One factor: `rows` vectors along k, at `data + row·row_stride + k·k_stride`. rows is M or N.
template <class T>
struct Factor {
  const T* data;
  int64_t row_stride, k_stride;
  int rows;
};

// Neighbouring blocks share rows of b, which are read once into L2.
struct TileAt {
  int row, column;
};
__device__ __forceinline__ TileAt tile_at(int rows) {
  int down = static_cast<int>(ceil_div(rows, kTile));
  return {static_cast<int>(blockIdx.x % down) * kTile, static_cast<int>(blockIdx.x / down) * kTile};
}

// One thread's way through the finished sums of a tile: row by row, so that stores are whole sectors.
constexpr int kPadSums = 8;
using Sums = float[kTile][kTile + kPadSums];
__device__ __forceinline__ void finish_tile(const Epilogue& epilogue, const Sums& sums, TileAt tile, int rows,
                                            int columns) {
  __syncthreads();  // stores of the sums before loads
#pragma unroll 2
  for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
    int row = i / kTile, column = i % kTile;
    if (tile.row + row < rows && tile.column + column < columns)
      finish_element(epilogue, tile.row + row, tile.column + column, sums[row][column]);
  }
}

// ---- f32 ------------------------------------------------------------------------------------------------------------

constexpr int kStepF32 = 16;  // of k
constexpr int kPadF32 = 4;    // keeps 16-byte loads aligned and the stores below without conflicts

// A lane takes k = lane % 8 and row = lane / 8 of an 8×4 patch: 8 k along a row fill a sector, and with a row of
// kTile + kPadF32 floats the 32 stores hit 32 banks.
struct LoadF32 {
  static constexpr int kPatches = kTile * kStepF32 / kThreads;
  float values[kPatches];

  static __device__ int k_of(int patch) { return patch % 2 * 8 + threadIdx.x % 8; }
  static __device__ int row_of(int patch) { return patch / 2 * (kThreads / 8) + threadIdx.x / 8; }

  __device__ void load(const Factor<float>& factor, int first_row, int first_k, int last_k) {
#pragma unroll
    for (int i = 0; i < kPatches; i++) {
      int row = first_row + row_of(i), k = first_k + k_of(i);
      bool inside = row < factor.rows && k < last_k;
      values[i] = inside ? factor.data[row * factor.row_stride + k * factor.k_stride] : 0;
    }
  }
  __device__ void store(float (*shared)[kTile + kPadF32]) const {
#pragma unroll
    for (int i = 0; i < kPatches; i++) shared[k_of(i)][row_of(i)] = values[i];
  }
};

// One fused multiply-add after the other in ascending k, as the plain loop does.
__global__ void __launch_bounds__(kThreads)
    product_f32(Factor<float> a, Factor<float> b, int depth, const __grid_constant__ Epilogue epilogue) {
  constexpr int kDown = 8, kAcross = 4;  // of a thread, in 8 × 16 threads
  __shared__ union __align__(16) {
    float factors[2][kStepF32][kTile + kPadF32];
    Sums sums;
  } shared;
  auto *a_shared = shared.factors[0], *b_shared = shared.factors[1];
  TileAt tile = tile_at(a.rows);
  int row = threadIdx.x / 16 * kDown, column = threadIdx.x % 16 * kAcross;
  float sums[kDown][kAcross] = {};
  LoadF32 next_a, next_b;
  next_a.load(a, tile.row, 0, depth);
  next_b.load(b, tile.column, 0, depth);
  for (int k = 0; k < depth; k += kStepF32) {
    next_a.store(a_shared);
    next_b.store(b_shared);
    __syncthreads();  // stores before loads
    next_a.load(a, tile.row, k + kStepF32, depth);
    next_b.load(b, tile.column, k + kStepF32, depth);
#pragma unroll
    for (int step = 0; step < kStepF32; step++) {
      float4 a_low = *reinterpret_cast<const float4*>(&a_shared[step][row]);
      float4 a_high = *reinterpret_cast<const float4*>(&a_shared[step][row + 4]);
      float4 b_four = *reinterpret_cast<const float4*>(&b_shared[step][column]);
      float a_values[kDown] = {a_low.x, a_low.y, a_low.z, a_low.w, a_high.x, a_high.y, a_high.z, a_high.w};
      float b_values[kAcross] = {b_four.x, b_four.y, b_four.z, b_four.w};
#pragma unroll
      for (int i = 0; i < kDown; i++)
#pragma unroll
        for (int j = 0; j < kAcross; j++) sums[i][j] = __fmaf_rn(a_values[i], b_values[j], sums[i][j]);
    }
    __syncthreads();  // loads before the next step's stores
  }
#pragma unroll
  for (int i = 0; i < kDown; i++)
    *reinterpret_cast<float4*>(&shared.sums[row + i][column]) = {sums[i][0], sums[i][1], sums[i][2], sums[i][3]};
  finish_tile(epilogue, shared.sums, tile, a.rows, b.rows);
}

// ---- bf16 -----------------------------------------------------------------------------------------------------------

constexpr int kPairs = kTileK / 2;  // of neighbouring k, a 32-bit register each
constexpr int kPadBf16 = 4;         // 20 words a row: 8 rows × 4 pairs hit 32 banks

// A lane takes the pair lane % 4 and the row lane / 4 of a 4×8 patch.
struct LoadBf16 {
  static constexpr int kPatches = kTile * kPairs / kThreads;
  uint32_t values[kPatches];

  static __device__ int pair_of(int patch) { return patch % 4 * 4 + threadIdx.x % 4; }
  static __device__ int row_of(int patch) { return patch / 4 * (kThreads / 4) + threadIdx.x / 4; }

  __device__ void load(const Factor<__nv_bfloat16>& factor, int first_row, int first_k, int last_k) {
    const uint16_t* data = reinterpret_cast<const uint16_t*>(factor.data);
#pragma unroll
    for (int i = 0; i < kPatches; i++) {
      int row = first_row + row_of(i), k = first_k + 2 * pair_of(i);
      const uint16_t* at = data + row * factor.row_stride + k * factor.k_stride;
      bool inside = row < factor.rows;
      uint32_t low = inside && k < last_k ? at[0] : 0;
      uint32_t high = inside && k + 1 < last_k ? at[factor.k_stride] : 0;
      values[i] = low | high << 16;
    }
  }
  __device__ void store(uint32_t (*shared)[kPairs + kPadBf16]) const {
#pragma unroll
    for (int i = 0; i < kPatches; i++) shared[row_of(i)][pair_of(i)] = values[i];
  }
};

// The k below `depth`, a multiple of 8, in the order of gemm_sm80.cuh: first what exceeds whole steps of kTileK. The
// rest is the epilogue's tail.
__global__ void __launch_bounds__(kThreads) product_bf16(Factor<__nv_bfloat16> a, Factor<__nv_bfloat16> b, int depth,
                                                         const __grid_constant__ Epilogue epilogue) {
  constexpr int kDown = 2, kAcross = 4;  // instructions of a warp, in 2 × 2 warps of 32×32
  __shared__ union __align__(16) {
    uint32_t factors[2][kTile][kPairs + kPadBf16];
    Sums sums;
  } shared;
  auto *a_shared = shared.factors[0], *b_shared = shared.factors[1];
  TileAt tile = tile_at(a.rows);
  int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp / 4, lane = threadIdx.x % 4;
  int row = warp / 2 * 32 + group, column = warp % 2 * 32 + group;
  float sums[kDown][kAcross][4] = {};
  LoadBf16 next_a, next_b;
  int k = depth % kTileK ? depth % kTileK : kTileK;
  next_a.load(a, tile.row, 0, min(k, depth));
  next_b.load(b, tile.column, 0, min(k, depth));
  for (; k <= depth; k += kTileK) {
    next_a.store(a_shared);
    next_b.store(b_shared);
    __syncthreads();  // stores before loads
    next_a.load(a, tile.row, k, depth);
    next_b.load(b, tile.column, k, depth);
#pragma unroll
    for (int pair = 0; pair < kPairs; pair += 8) {
      uint32_t a_values[kDown][4], b_values[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; i++)
#pragma unroll
        for (int part = 0; part < 4; part++)
          a_values[i][part] = a_shared[row + 16 * i + part % 2 * 8][pair + part / 2 * 4 + lane];
#pragma unroll
      for (int j = 0; j < kAcross; j++)
#pragma unroll
        for (int part = 0; part < 2; part++) b_values[j][part] = b_shared[column + 8 * j][pair + part * 4 + lane];
#pragma unroll
      for (int i = 0; i < kDown; i++)
#pragma unroll
        for (int j = 0; j < kAcross; j++) ptx::mma_bf16(sums[i][j], a_values[i], b_values[j][0], b_values[j][1]);
    }
    __syncthreads();  // loads before the next step's stores
  }
#pragma unroll
  for (int i = 0; i < kDown; i++)
#pragma unroll
    for (int j = 0; j < kAcross; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<float2*>(&shared.sums[row + 16 * i + 8 * half][column - group + 8 * j + 2 * lane]) = {
            sums[i][j][2 * half], sums[i][j][2 * half + 1]};
  finish_tile(epilogue, shared.sums, tile, a.rows, b.rows);
}

// ---- launches -------------------------------------------------------------------------------------------------------

// depth: the k that the kernel adds itself; the epilogue adds the rest.
template <class T, class Kernel>
void launch_tiles(const Call& call, const Product& product, int64_t depth, Kernel kernel) {
  Strides strides = strides_of(product);
  Factor<T> a = {static_cast<const T*>(product.a.data), strides.a_row, strides.a_k, static_cast<int>(product.m)};
  Factor<T> b = {static_cast<const T*>(product.b.data), strides.b_column, strides.b_k, static_cast<int>(product.n)};
  launch(call, ceil_div(product.m, kTile) * ceil_div(product.n, kTile), kThreads, kernel, a, b, static_cast<int>(depth),
         epilogue_of(product, depth));
}

}  // namespace

void multiply_f32(const Call& call, const Product& product) {
  launch_tiles<float>(call, product, product.k, product_f32);
}

void multiply_bf16_plain(const Call& call, const Product& product) {
  launch_tiles<__nv_bfloat16>(call, product, product.k / kTensorStep * kTensorStep, product_bf16);
}

}  // namespace foretoken::cuda
