// How the fused cross-entropy cuts its work, and the workspace that follows from it. Shapes and level decide, nothing
// else: the workspace query and the run build the same object.
#pragma once
#include "blocks.h"
#include "cross_entropy_block.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int64_t kStatisticsSlab = 1024;  // classes that one task reduces to partial statistics

static inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// What a call wants beside the loss.
struct LossParts {
  bool gradients, exponential_sums, class_sums, packed;
  int64_t facts;  // of Statistics, from the front
};

// The loss alone, the gradient of a loss known before, or both in one pass.
enum class LossMode { loss, gradient, both };

// Two modes. Stored: the logits of a chunk of tokens are kept and the arithmetic is 6TdV. Recomputed: they are computed
// again for the gradient, 8TdV, with long chunks, so that dW is written (nearly) once.
struct LossShape {
  DType dtype;
  int64_t rows, width, vocabulary;
  int64_t chunk;  // tokens handled together, a multiple of kTokenStep
  int64_t slab;   // classes whose gradient matrix exists at once, a multiple of kClassBlock
  bool stored;

  int64_t statistics_slabs() const { return (vocabulary + kStatisticsSlab - 1) / kStatisticsSlab; }
  int64_t token_blocks() const { return (chunk + kTokenBlock - 1) / kTokenBlock; }
};

#if defined(__AMX_BF16__)
constexpr bool kProductsAreCheap = true;
#else
constexpr bool kProductsAreCheap = false;
#endif

// Chunks and slabs. Measured (Intel with AMX, 2048 × 512 × 32000, ms of one core):
//   AMX bf16, recomputed: slab 256 × chunk 2048: 252–271 at 12.1 MB · slab 512: 266–280 at 14.5 · slab 1024: 291–311 at
//   19.3 · chunk 1024: 272–280 at 6.3 · chunk 512: 289–321 at 3.4. Blocks of 32 instead of 64 classes: no difference.
//   AVX-512 f32, stored: 16 MB of logits (chunk 128): 1528 · 32 MB (chunk 256): 1417; dW and W pass through memory once
//   a chunk. Recomputing would take a third more arithmetic.
static LossShape loss_shape(DType dtype, int64_t rows, int64_t width, int64_t vocabulary, LossMode mode) {
  constexpr int64_t kSlab = 256, kLongestChunk = 2048, kFewestStoredTokens = 96;
  constexpr int64_t kStoredBytes = 32 << 20, kRecomputedBytes = 12 << 20, kCachedGradientBytes = 1 << 20;
  int64_t element = bytes_per_element(dtype);
  LossShape shape = {dtype, rows, width, vocabulary, 0, smaller(kSlab, round_up(vocabulary, kClassBlock)), false};
  int64_t stored = smaller(512, kStoredBytes / (4 * vocabulary) / kTokenStep * kTokenStep);
  // Never all logits at once where there are more than a few rows.
  stored = smaller(stored, larger(128, round_up((rows + 1) / 2, kTokenStep)));
  shape.stored =
      mode == LossMode::both && stored >= kFewestStoredTokens && !(kProductsAreCheap && dtype == DType::bf16);
  int64_t token_bytes = 2 * element * shape.slab + (4 + 2 * element) * width;
  int64_t recomputed =
      larger(kTokenBlock, smaller(kLongestChunk, kRecomputedBytes / token_bytes / kTokenBlock * kTokenBlock));
  // A dW that stays in cache may be added to often: shorter chunks stay there too.
  if (4 * width * vocabulary <= kCachedGradientBytes) recomputed = smaller(recomputed, 512);
  shape.chunk = smaller(shape.stored ? stored : recomputed, round_up(rows, kTokenStep));
  return shape;
}

// Hands out 64-byte aligned pieces; without a base it only counts.
struct Carver {
  char* base;
  size_t used = 0;
  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(base + used);
    used += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
    return piece;
  }
};

// Everything of one chunk; T: float or bf16.
template <class T>
struct LossBuffers {
  static constexpr int64_t kPad = 64 / sizeof(T);  // keeps rows of a power of two off each other's cache sets
  static constexpr int64_t kScratchStride = kTokenBlock + 16;

  int32_t* targets;                                // (chunk)
  float *target_logit, *target_gradient, *others;  // (chunk)
  float *offset, *factor, *share;                  // (chunk) see TokenGradient
  void *hidden_columns, *hidden_rows;              // xᵀ packed (d × chunk), x packed (chunk × d)
  float* statistics;                               // (statistics slab, fact, chunk)
  float* logits;                                   // (V, chunk) stored
  int64_t logits_stride;
  float *scratch, *packed_scratch;    // per worker: a block, a block across
  T *gradient_rows, *weight_columns;  // (slab, chunk), (d, slab)
  void* gradient_columns;             // packed (slab × chunk)
  int64_t gradient_stride, weight_stride;
  float* dhidden;                        // (d, chunk)
  float* dhidden_rows;                   // per worker: kPanel tokens × d
  float *class_sums, *exponential_sums;  // (token block, slab), (class block, chunk)

  LossBuffers(Carver& carver, const LossShape& shape, const LossParts& parts, int64_t threads) {
    int64_t chunk = shape.chunk, width = shape.width;
    targets = carver.take<int32_t>(chunk);
    float** facts[] = {&target_logit, &target_gradient, &others, &offset, &factor, &share};
    for (float** fact : facts) *fact = carver.take<float>(chunk);
    hidden_columns = carver.take<char>(packed_bytes(shape.dtype, width, chunk));
    statistics = carver.take<float>(shape.statistics_slabs() * parts.facts * chunk);
    logits_stride = chunk + 16;
    logits = shape.stored ? carver.take<float>(shape.vocabulary * logits_stride) : nullptr;
    scratch = shape.stored ? nullptr : carver.take<float>(threads * kClassBlock * kScratchStride);
    packed_scratch = parts.packed ? carver.take<float>(threads * kTokenBlock * kClassBlock) : nullptr;
    if (!parts.gradients) return;
    hidden_rows = carver.take<char>(packed_bytes(shape.dtype, chunk, width));
    gradient_stride = chunk + kPad;
    weight_stride = shape.slab + kPad;
    gradient_rows = carver.take<T>(shape.slab * gradient_stride);
    gradient_columns = carver.take<char>(packed_bytes(shape.dtype, shape.slab, chunk));
    weight_columns = carver.take<T>(width * weight_stride);
    dhidden = carver.take<float>(width * (chunk + 16));
    dhidden_rows = carver.take<float>(threads * kPanel * width);
    class_sums = parts.class_sums ? carver.take<float>(shape.token_blocks() * shape.slab) : nullptr;
    exponential_sums = parts.exponential_sums ? carver.take<float>(shape.slab / kClassBlock * chunk) : nullptr;
  }
};

}  // namespace FORETOKEN_LEVEL_NAMESPACE
