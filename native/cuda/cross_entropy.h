// Fused linear cross-entropy on CUDA: what its files share. Formulas: generic/cross_entropy.cpp.
//
// Two ways through a call, by chunks of rows, with a workspace that follows from shapes alone:
//   exponentials (6TdV, training): E = exp(z − z_y) of all classes is stored once, rounded to the storage dtype; what
//     normalises a row is known afterwards and goes into the products: dx = v·(E·W), dW += Eᵀ·(v·x). Rows with a logit
//     more than kRoom above the target's are computed again with their largest logit for offset.
//   slabs (2TdV for the loss alone; 6TdV for the gradient where lse is known, 8TdV for both): statistics first, then
//   the
//     gradient matrix G of one slab of classes after the other. For few rows, and for what needs exact probabilities.
// Nothing cancels as p_y → 1, and what dominates the rounding error stays out of the bf16 matrix: E is 0 at the target
// and at the largest other class, G at the target. These entries of a row ("exact") are added in fp32 from x and W.
// E and v·x are rounded both. Simulated against fp64 with 64 to 128 rows, relative to plain bf16 with its one rounding:
// dW's error is up to 1.5 times as large at logits of deviation 4 without the second exact entry, at most 0.63 with it.
#pragma once
#include "../core/call.h"
#include "../core/view.h"

namespace foretoken::cuda {

constexpr float kRoom = 40;       // nats; V·e^40·|W| stays far inside the range of bf16 and f32
constexpr int kLogitBlock = 128;  // rows, and classes, of a block of logits

// What each row of a chunk is known by, C floats or integers each, in device memory.
struct LossRows {
  int32_t* target;      // −1: ignored
  float* target_logit;  // z_y
  float* offset;        // of the exponentials
  float* factor;        // exponentials: v; slabs: gradient per exp(z − offset)
  float* share;         // slabs: what label smoothing takes from every class
  float* normalizer;    // slabs: Σ exp(z − offset)
  float* lse;           // slabs: for the gradient of the z-loss
  int32_t* redo;        // exponentials: 1 where the offset left no room
  // The exact entries of the row: [entry][row]. Classes are −1 where there is none.
  int32_t* exact_class;
  float* exact_gradient;
};

// A matrix of rows × classes logits, and what its kernels read and write.
struct Logits {
  DType dtype;                  // of hidden, weight, stored
  const void *hidden, *weight;  // (rows,d), (classes,d)
  const void* bias;             // (classes) or nullptr
  DType bias_dtype;
  int64_t rows, classes, width;  // width: d
  int64_t first_class;           // the class of weight's first row
  int64_t vocabulary;            // V
  float logit_scale, softcap;
  LossRows row;
  void* stored;     // E or G (rows, stride), zero in the columns past `classes`; or nullptr
  int64_t stride;   // a multiple of 8
  float* partials;  // (blocks of classes, facts, partial_stride): what a block knows of each row
  int64_t partial_stride, facts;
  float* class_sums;  // (blocks of rows, stride) column sums of G, or nullptr
};

// What a block of logits knows of a row, in the order of the partials. The target's own logit is in none of the first
// three, nor in `weighted`.
enum Fact { kSum, kLargest, kIndex, kLogitSum, kWeighted, kRank, kFacts };

constexpr int64_t kExponentialFacts = 3, kGradientFacts = 1;

// ---- the kernels of logits (cross_entropy_bf16*.cu, cross_entropy_f32.cu)
// --------------------------------------------

enum class LogitUse { target, statistics, exponentials, redo, gradient };

// target: target_logit. statistics: `facts` facts, sums relative to each block's largest logit. exponentials: E and its
// facts, sums relative to the row's offset; redo: the same of rows that ask for it. gradient: G, and the sums of
// exponentials.
void launch_logits(const Call& call, LogitUse use, const Logits& logits);

void launch_logits_bf16(const Call& call, LogitUse use, const Logits& logits);
void launch_logits_bf16_unaligned(const Call& call, LogitUse use, const Logits& logits);
void launch_logits_f32(const Call& call, LogitUse use, const Logits& logits);

// ---- the kernels of rows (cross_entropy_rows.cu)
// ---------------------------------------------------------------------

struct LossOptions {
  int64_t shift;
  float label_smoothing, z_loss, logit_scale, softcap;
};

// Where the rows of a chunk lie in the caller's arrays.
struct RowRange {
  int64_t first, count;
};

// Per row of the call; each may be nullptr.
struct LossOutputs {
  float *loss, *lse;
  int32_t *argmax, *rank;
  float* entropy;
};

// What the gradient of a row is multiplied by: scale[0]·weight[r], each 1 where not given.
struct Upstream {
  const float *scale, *weight;
};

// rows: of the call, so many to each row of targets (B,S).
void find_targets(const Call& call, const Logits& logits, const In& targets, const In& limit, int64_t shift,
                  int64_t rows, RowRange range);
// The partials of `exponentials` become losses, factors and exact entries; E is cleared where the entries are.
// With `redo` of the rows alone that asked for it, else of all, which are told to ask.
void reduce_exponentials(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                         RowRange range, const LossOutputs& outputs, bool redo);
// The partials of `statistics` become losses, and what `gradient` needs.
void reduce_statistics(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                       RowRange range, const LossOutputs& outputs);
// The same from the lse (R) of an earlier call.
void prepare_gradient(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                      RowRange range, const float* lse);
// The partials of `gradient`, of all slabs, become the gradient at the target.
void reduce_gradient(const Call& call, const Logits& logits, const LossOptions& options, Upstream upstream,
                     RowRange range);
// scaled (C,d) = factor·hidden.
void scale_rows(const Call& call, const Logits& logits, void* scaled);
// dbias (classes) (+)= the sums over blocks of rows.
void reduce_class_sums(const Call& call, const Logits& logits, float* dbias, bool accumulate);
// dweight[class] += gradient·x and dbias[class] += gradient for every exact entry, in the order of rows. Either may be
// nullptr.
void add_exact_to_weight(const Call& call, const Logits& logits, int64_t entries, float* dweight, float* dbias);
// dhidden (+)= sums + Σ gradient·W[class] over the exact entries. sums, dhidden (C,d).
void finish_dhidden(const Call& call, const Logits& logits, int64_t entries, const float* sums, const InOut& dhidden,
                    int64_t first_row, bool accumulate);
void fill_zeros(const Call& call, const InOut& view);

// ---- devices that are exactly 9.0 (cross_entropy_sm90.cu)
// -------------------------------------------------------------

// `exponentials` by wgmma and TMA where they can reach the operands and no option stands against it, else
// launch_logits.
void launch_exponentials_sm90(const Call& call, const Logits& logits);

}  // namespace foretoken::cuda
