// 128×128 products of rows of hidden and rows of the weight, left in shared memory, summed over d in one chain whose
// order depends on d alone. Two ways: mma.sync for bf16, FFMA for f32.
#pragma once
#include "cross_entropy.h"
#include "device.cuh"
#include "ptx.cuh"

namespace foretoken::cuda {

// Where a finished product lies: rows of 128 floats, eights of columns turned within them so that neither the stores of
// mma's fragments nor loads along a row meet a bank twice.
constexpr int kProductBytes = kLogitBlock * kLogitBlock * 4;
__device__ __forceinline__ unsigned product_offset(unsigned row, unsigned column) {
  return row * kLogitBlock + (column ^ row % 4 * 8);
}

// The rows that a block multiplies. Row r is row first + r of data, or row chosen[first + r] (zeros where negative).
template <class Storage>
struct BlockRows {
  const Storage* data;    // (…, depth)
  const int32_t* chosen;  // nullptr: not chosen
  int64_t first, count;   // zeros from row first + r = count on

  // nullptr for a row of zeros.
  __device__ __forceinline__ const Storage* row(int r, int64_t depth) const {
    int64_t index = first + r;
    if (index >= count) return nullptr;
    if (chosen) index = chosen[index];
    return index < 0 ? nullptr : data + index * depth;
  }
};

// mma.sync, warps of 16·kDown × 64 side by side in two columns. kAligned: rows start on 16 bytes and d is a multiple of
// 8. With kDown = 4 a warp's loads from shared memory are fewest; with 2 a thread has registers to spare.
template <bool kAligned, int kDown>
struct MmaBlock {
  using Storage = __nv_bfloat16;
  static constexpr int kWarpRows = 16 * kDown, kWarpColumns = 64;
  static constexpr int kThreads = 2 * kLogitBlock / kWarpRows * kWarp, kBlocksPerProcessor = 2;
  static constexpr int kStep = 32, kStages = 4;              // of d; copies under way
  static constexpr int kPiece = 8;                           // elements copied at once
  static constexpr int kPieces = kStep / kPiece;             // of a row and step
  static constexpr int kRowsAtOnce = kThreads / kPieces;     // that all threads together copy
  static constexpr int kCopies = kLogitBlock / kRowsAtOnce;  // of a thread for each factor and step
  static constexpr int kFactor = kLogitBlock * kStep;        // elements of a step
  static constexpr int kAcross = kWarpColumns / 8;           // 16×8 products of a warp, kDown × kAcross
  static_assert(2 * kStages * kFactor * sizeof(Storage) <= kProductBytes);

  // A row's four pieces are turned so that equal pieces of eight rows lie in different banks.
  static __device__ __forceinline__ int piece_offset(int row, int piece) {
    return (row * kPieces + (piece ^ row / 2 % kPieces)) * kPiece;
  }

  static __device__ __forceinline__ void copy_piece(Storage* to, const Storage* row, int64_t k, int64_t depth) {
    if (kAligned && row && k < depth) return ptx::copy_async_16(to, row + k);
    uint32_t words[kPiece / 2] = {};
    const auto* bits = reinterpret_cast<const uint16_t*>(row);
    if constexpr (!kAligned)
      for (int i = 0; i < kPiece; i++)
        if (row && k + i < depth) words[i / 2] |= uint32_t{bits[k + i]} << i % 2 * 16;
    *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
  }

  // The rows that this thread copies.
  struct Sources {
    const Storage *a[kCopies], *b[kCopies];
  };
  static __device__ __forceinline__ void copy_step(const Sources& sources, Storage* stage, int64_t k, int64_t depth) {
    int piece = threadIdx.x % kPieces, row = threadIdx.x / kPieces;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      Storage* to = stage + piece_offset(row + i * kRowsAtOnce, piece);
      copy_piece(to, sources.a[i], k + piece * kPiece, depth);
      copy_piece(to + kFactor, sources.b[i], k + piece * kPiece, depth);
    }
  }

  static __device__ __forceinline__ int warp_row() { return static_cast<int>(threadIdx.x) / kWarp / 2 * kWarpRows; }
  static __device__ __forceinline__ int warp_column() {
    return static_cast<int>(threadIdx.x) / kWarp % 2 * kWarpColumns;
  }

  static __device__ __forceinline__ void multiply_step(float (&sums)[kDown][kAcross][4], const Storage* stage) {
    int lane = threadIdx.x % kWarp, a_row = warp_row() + lane % 16;
    int b_row = warp_column() + lane % 8 + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kPieces; k += 2) {
      uint32_t a[kDown][4], b[kAcross / 2][4];
#pragma unroll
      for (int i = 0; i < kDown; i++) ptx::ldmatrix(a[i], stage + piece_offset(a_row + i * 16, k + lane / 16));
#pragma unroll
      for (int j = 0; j < kAcross / 2; j++)
        ptx::ldmatrix(b[j], stage + kFactor + piece_offset(b_row + j * 16, k + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < kDown; i++)
#pragma unroll
        for (int j = 0; j < kAcross; j++) ptx::mma_bf16(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }

  static __device__ __forceinline__ void store(const float (&sums)[kDown][kAcross][4], float* product) {
    int row = warp_row() + threadIdx.x % kWarp / 4, column = warp_column() + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < kDown; i++)
#pragma unroll
      for (int j = 0; j < kAcross; j++)
#pragma unroll
        for (int half = 0; half < 2; half++)
          reinterpret_cast<float2*>(product)[product_offset(row + i * 16 + half * 8, column + j * 8) / 2] =
              make_float2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
  }

  static __device__ __forceinline__ void multiply(const BlockRows<Storage>& a, const BlockRows<Storage>& b,
                                                  int64_t depth, float* product) {
    auto* stages = reinterpret_cast<Storage*>(product);
    Sources sources;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      sources.a[i] = a.row(threadIdx.x / kPieces + i * kRowsAtOnce, depth);
      sources.b[i] = b.row(threadIdx.x / kPieces + i * kRowsAtOnce, depth);
    }
    float sums[kDown][kAcross][4] = {};
    int steps = static_cast<int>(ceil_div(depth, kStep));
#pragma unroll
    for (int step = 0; step < kStages - 1; step++) {
      if (step < steps) copy_step(sources, stages + step * 2 * kFactor, int64_t{step} * kStep, depth);
      ptx::commit_copies();
    }
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
      ptx::wait_copies<kStages - 2>();
      __syncthreads();  // this step has arrived for all; all are done with the stage that is filled next
      int next = step + kStages - 1;
      if (next < steps) copy_step(sources, stages + next % kStages * 2 * kFactor, int64_t{next} * kStep, depth);
      ptx::commit_copies();
      multiply_step(sums, stages + step % kStages * 2 * kFactor);
    }
    __syncthreads();  // factors are read before the product takes their place
    store(sums, product);
    __syncthreads();  // the product is there
  }
};

// FFMA, 16 × 16 threads with 8×8 logits each: four rows and four columns of each half of the block.
struct FmaBlock {
  using Storage = float;
  static constexpr int kThreads = 256, kBlocksPerProcessor = 2;
  static constexpr int kRows = 8, kColumns = 8;  // of a thread
  static constexpr int kStep = 8;                // of d
  // A step lies as (k, row). 132 floats a row: rows start on 16 bytes, and the stores of a warp hit 32 banks.
  static constexpr int kStride = kLogitBlock + 4;
  static constexpr int kOperandFloats = kStep * kStride;
  static_assert(2 * 2 * kOperandFloats * 4 <= kProductBytes);

  static __device__ __forceinline__ void load(float (&to)[4], const float* row, int64_t k, int64_t depth) {
    if (row && k + 4 <= depth && reinterpret_cast<uintptr_t>(row + k) % 16 == 0) {
      float4 four = *reinterpret_cast<const float4*>(row + k);
      to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = row && k + i < depth ? row[k + i] : 0;
  }

  static __device__ __forceinline__ void multiply(const BlockRows<float>& a, const BlockRows<float>& b, int64_t depth,
                                                  float* product) {
    float sums[kRows][kColumns];
    int row = threadIdx.x / 2, first = threadIdx.x % 2 * 4;
    const float *a_row = a.row(row, depth), *b_row = b.row(row, depth);
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int j = 0; j < kColumns; j++) sums[i][j] = 0;
    float a_next[4], b_next[4];
    load(a_next, a_row, first, depth);
    load(b_next, b_row, first, depth);
    int steps = static_cast<int>(ceil_div(depth, kStep));
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
      float *a_shared = product + step % 2 * 2 * kOperandFloats, *b_shared = a_shared + kOperandFloats;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        a_shared[(first + i) * kStride + row] = a_next[i];
        b_shared[(first + i) * kStride + row] = b_next[i];
      }
      __syncthreads();  // the step's factors are there; the other buffer was read before the last such barrier
      load(a_next, a_row, int64_t{step + 1} * kStep + first, depth);
      load(b_next, b_row, int64_t{step + 1} * kStep + first, depth);
#pragma unroll
      for (int k = 0; k < kStep; k++) {
        float a_values[kRows], b_values[kColumns];
#pragma unroll
        for (int half = 0; half < 2; half++) {
          *reinterpret_cast<float4*>(a_values + 4 * half) =
              *reinterpret_cast<const float4*>(a_shared + k * kStride + half * 64 + threadIdx.x / 16 * 4);
          *reinterpret_cast<float4*>(b_values + 4 * half) =
              *reinterpret_cast<const float4*>(b_shared + k * kStride + half * 64 + threadIdx.x % 16 * 4);
        }
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
          for (int j = 0; j < kColumns; j++) sums[i][j] = __fmaf_rn(a_values[i], b_values[j], sums[i][j]);
      }
    }
    __syncthreads();  // factors are read before the product takes their place
    int first_row = threadIdx.x / 16 * 4, first_column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int j = 0; j < kColumns; j += 4)
        reinterpret_cast<float4*>(product)[product_offset(first_row + i / 4 * 64 + i % 4, first_column + j * 16) / 4] =
            make_float4(sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]);
    __syncthreads();  // the product is there
  }
};

}  // namespace foretoken::cuda
