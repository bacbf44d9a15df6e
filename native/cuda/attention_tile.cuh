// What the attention kernels share: tiles in shared memory, a warp's products of them, and who sees which key.
//
// A warp works on 16 rows. Its fragment of a (16, 8·n) matrix is float[n][4]: with g = lane / 4 and t = lane % 4, part
// j holds (g, 8j+2t), (g, 8j+2t+1), (g+8, 8j+2t), (g+8, 8j+2t+1). bf16 multiplies by mma.sync, f32 by FFMA in the same
// fragments, so each kernel is written once.
#pragma once
#include <type_traits>

#include "device.cuh"
#include "ptx.cuh"

namespace foretoken::cuda {

constexpr int kAttentionThreads = 128, kAttentionWarps = kAttentionThreads / kWarp, kRowsPerWarp = 16;
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// (rows, kWidth), kWidth = D rounded up to 32, 64 or 128; columns from D on are 0. 16 bytes of padding per row: the
// eight rows of an ldmatrix and the rows that f32 reads together lie in different banks.
template <class T, int kWidth>
struct Tile {
  static constexpr int kVector = 16 / sizeof(T);
  static constexpr int kStride = kWidth + kVector;
  static constexpr size_t bytes(int rows) { return sizeof(T) * rows * kStride; }
};

// The heads of one (b, h) or (b, g): row t of `rows` is at data + t·stride, D long.
template <class T>
struct Rows {
  T* data;
  int64_t stride, rows;
  int D;
  bool aligned;  // every row starts on 16 bytes and D is a multiple of 16 bytes
};

// (B,T,heads,D): the rows of one head.
template <class T>
__device__ __forceinline__ Rows<T> head_rows(T* data, int64_t b, int64_t head, int64_t heads, int64_t tokens, int D,
                                             bool aligned) {
  return {data + (b * tokens * heads + head) * D, heads * D, tokens, D, aligned};
}

// Rows first … first+kRows−1 into a tile, zeros beyond the last row and column. Copies may still be under way
// afterwards: commit, wait, then a barrier.
template <int kRows, int kWidth, class T>
__device__ __forceinline__ void load_tile(T* tile, const Rows<const T>& from, int64_t first) {
  using Shape = Tile<T, kWidth>;
  constexpr int kChunks = kWidth / Shape::kVector;
  for (int i = threadIdx.x; i < kRows * kChunks; i += kAttentionThreads) {
    const int row = i / kChunks, column = i % kChunks * Shape::kVector;
    T* to = tile + row * Shape::kStride + column;
    const T* source = from.data + (first + row) * from.stride + column;
    const bool inside = first + row < from.rows && column < from.D;
    if (inside && from.aligned) {
      ptx::copy_async_16(to, source);
    } else {
      for (int e = 0; e < Shape::kVector; e++) to[e] = inside && column + e < from.D ? source[e] : T(0.0f);
    }
  }
}

// A warp's 16 rows of a tile to memory, from row `first` on.
template <int kWidth, class T>
__device__ __forceinline__ void store_rows(const Rows<T>& to, int64_t first, const T* tile) {
  using Shape = Tile<T, kWidth>;
  constexpr int kChunks = kWidth / Shape::kVector;
  for (int i = threadIdx.x % kWarp; i < kRowsPerWarp * kChunks; i += kWarp) {
    const int row = i / kChunks, column = i % kChunks * Shape::kVector;
    if (first + row >= to.rows || column >= to.D) continue;
    const T* source = tile + row * Shape::kStride + column;
    T* target = to.data + (first + row) * to.stride + column;
    if (to.aligned) {
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(source);
    } else {
      for (int e = 0; e < Shape::kVector && column + e < to.D; e++) target[e] = source[e];
    }
  }
}

// A warp's fragment, each row times its own factor, into 16 rows of a tile that no other warp reads; then to memory.
template <int kWidth, class T>
__device__ __forceinline__ void store_fragment(const Rows<T>& to, int64_t first, T* tile,
                                               const float (&fragment)[kWidth / 8][4], float upper = 1,
                                               float lower = 1) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  __syncwarp();  // every lane has read what was here
  for (int j = 0; j < kWidth / 8; j++)
    for (int e = 0; e < 4; e++)
      store_value(tile + (g + e / 2 * 8) * Tile<T, kWidth>::kStride + 8 * j + 2 * t + e % 2,
                  fragment[j][e] * (e < 2 ? upper : lower));
  __syncwarp();
  store_rows<kWidth>(to, first, tile);
}

// sum (16, 8·kParts) += a (16, kWidth)·b (8·kParts, kWidth)ᵀ, both tiles.
template <int kWidth, int kParts>
__device__ __forceinline__ void multiply_rows(float (&sum)[kParts][4], const __nv_bfloat16* a, const __nv_bfloat16* b) {
  constexpr int kStride = Tile<__nv_bfloat16, kWidth>::kStride;
  const int lane = threadIdx.x % kWarp;
  const __nv_bfloat16* a_row = a + lane % 16 * kStride + lane / 16 * 8;
  const __nv_bfloat16* b_row = b + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kWidth; k += 16) {
    uint32_t x[4];
    ptx::ldmatrix(x, a_row + k);
#pragma unroll
    for (int j = 0; j < kParts; j += 2) {
      uint32_t y[4];
      ptx::ldmatrix(y, b_row + 8 * j * kStride + k);
      ptx::mma_bf16(sum[j], x, y[0], y[1]);
      ptx::mma_bf16(sum[j + 1], x, y[2], y[3]);
    }
  }
}
template <int kWidth, int kParts>
__device__ __forceinline__ void multiply_rows(float (&sum)[kParts][4], const float* a, const float* b) {
  constexpr int kStride = Tile<float, kWidth>::kStride;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll 2
  for (int k = 0; k < kWidth; k++) {
    const float upper = a[g * kStride + k], lower = a[(g + 8) * kStride + k];
#pragma unroll
    for (int j = 0; j < kParts; j++) {
      const float x = b[(8 * j + 2 * t) * kStride + k], y = b[(8 * j + 2 * t + 1) * kStride + k];
      sum[j][0] = fmaf(upper, x, sum[j][0]);
      sum[j][1] = fmaf(upper, y, sum[j][1]);
      sum[j][2] = fmaf(lower, x, sum[j][2]);
      sum[j][3] = fmaf(lower, y, sum[j][3]);
    }
  }
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// sum (16, kWidth) += weights (16, 8·kParts)·b (8·kParts, kWidth); weights is a fragment, rounded to bf16 where b is.
template <int kWidth, int kParts>
__device__ __forceinline__ void multiply_weights(float (&sum)[kWidth / 8][4], const float (&weights)[kParts][4],
                                                 const __nv_bfloat16* b) {
  constexpr int kStride = Tile<__nv_bfloat16, kWidth>::kStride;
  const int lane = threadIdx.x % kWarp;
  const __nv_bfloat16* b_row = b + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kParts; k += 2) {
    const uint32_t x[4] = {pack_bf16(weights[k][0], weights[k][1]), pack_bf16(weights[k][2], weights[k][3]),
                           pack_bf16(weights[k + 1][0], weights[k + 1][1]),
                           pack_bf16(weights[k + 1][2], weights[k + 1][3])};
#pragma unroll
    for (int j = 0; j < kWidth / 8; j += 2) {
      uint32_t y[4];
      ptx::ldmatrix_transposed(y, b_row + 8 * k * kStride + 8 * j);
      ptx::mma_bf16(sum[j], x, y[0], y[1]);
      ptx::mma_bf16(sum[j + 1], x, y[2], y[3]);
    }
  }
}
template <int kWidth, int kParts>
__device__ __forceinline__ void multiply_weights(float (&sum)[kWidth / 8][4], const float (&weights)[kParts][4],
                                                 const float* b) {
  constexpr int kStride = Tile<float, kWidth>::kStride;
  const int lane = threadIdx.x % kWarp, t = lane % 4;
#pragma unroll
  for (int part = 0; part < kParts; part++) {
#pragma unroll 2
    for (int k = 0; k < 8; k++) {
      const int owner = lane / 4 * 4 + k / 2;  // the lane of this row's four that holds column k
      const float upper = __shfl_sync(~0u, k % 2 ? weights[part][1] : weights[part][0], owner);
      const float lower = __shfl_sync(~0u, k % 2 ? weights[part][3] : weights[part][2], owner);
      const float* row = b + (8 * part + k) * kStride + 2 * t;
#pragma unroll
      for (int j = 0; j < kWidth / 8; j++) {
        const float2 x = *reinterpret_cast<const float2*>(row + 8 * j);
        sum[j][0] = fmaf(upper, x.x, sum[j][0]);
        sum[j][1] = fmaf(upper, x.y, sum[j][1]);
        sum[j][2] = fmaf(lower, x.x, sum[j][2]);
        sum[j][3] = fmaf(lower, x.y, sum[j][3]);
      }
    }
  }
}

// The first key that token t of batch row b sees; beyond the last token: none.
__device__ __forceinline__ int first_visible(const int32_t* first_key, int64_t b, int64_t t, int64_t tokens) {
  if (t >= tokens) return INT32_MAX;
  return first_key ? max(first_key[b * tokens + t], 0) : 0;
}

// ---- the host's side -----------------------------------------------------------------------------------------------

struct AttentionShape {
  int64_t B, T, H, G, D;
  AttentionShape(const View& q, const View& k)
      : B(q.shape[0]), T(q.shape[1]), H(q.shape[2]), G(k.shape[2]), D(q.shape[3]) {}
};

constexpr int kWidestTile = 128;  // wider heads take the plain kernels (attention_wide.cuh)

static inline bool starts_on_16_bytes(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % 16) return false;
  return true;
}

// Launches a kernel on `blocks` blocks, with more shared memory than the 48 KB that every kernel may have if need be.
template <class Arguments>
static inline void launch_attention(const Call& call, void (*kernel)(Arguments), int64_t blocks, size_t shared,
                                    const Arguments& arguments) {
  if (blocks == 0) return;
  constexpr size_t kUnasked = 48 << 10;
  if (shared > kUnasked)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  kernel<<<static_cast<unsigned>(blocks), kAttentionThreads, shared, stream_of(call)>>>(arguments);
}

// body(Element<T>, width) for the storage of q and the tile width that holds D.
template <class Body>
static inline void dispatch_width(const View& q, int64_t D, Body body) {
  dispatch({q.dtype}, [&]<class T>(Element<T> element) {
    if (D <= 32) return body(element, std::integral_constant<int, 32>());
    if (D <= 64) return body(element, std::integral_constant<int, 64>());
    body(element, std::integral_constant<int, kWidestTile>());
  });
}

}  // namespace foretoken::cuda
