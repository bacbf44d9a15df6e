// What the fused cross-entropy does to one block of logits while it is in cache.
//
// A block is transposed: z[c·stride + t] is the logit of class c (a row of W) for token t, so that softmax runs down
// the rows and every lane has a token of its own. Token counts are padded to whole kTokenStep; classes are not padded.
#pragma once
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int64_t kClassBlock = 64;   // rows of W in a block
constexpr int64_t kTokenBlock = 256;  // tokens in a block
constexpr int64_t kTokenStep = 32;    // tokens are padded to this: two vectors of 16, two panels
constexpr float kMasked = -1e30f;     // stands for −∞ at the target: exp gives 0 and no ∞ − ∞ arises
constexpr float kLowest = -3e38f;

struct LogitBlock {
  float* z;
  int64_t stride, classes, tokens;
};

struct LossOptions {
  int64_t shift;
  float label_smoothing, z_loss, logit_scale, softcap;
};

// ---- vectors --------------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
// x where a > b, else y.
static inline Vec select_greater(Vec a, Vec b, Vec x, Vec y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x);
}
#else
static inline Vec select_greater(Vec a, Vec b, Vec x, Vec y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
#endif

// eˣ for x ≤ 0: 2^(x·log₂e) with a polynomial of degree 5 for the fraction, to 2e-7 + 6e-8·|x|. Nine operations
// against sixteen of exp(x), whose range reduction is exact; far below −87 it is 0, and the mask needs no clamp.
static inline Vec exp_below(Vec x) {
  Vec power = mul(x, broadcast(1.44269504f));
  Vec n = round(power), r = sub(power, n);
  Vec p = broadcast(1.339086336e-3f);
  p = fma(p, r, broadcast(9.676031918e-3f));
  p = fma(p, r, broadcast(5.550357114e-2f));
  p = fma(p, r, broadcast(2.402210749e-1f));
  p = fma(p, r, broadcast(6.931471880e-1f));
  p = fma(p, r, broadcast(1.0f));
  return finish_exp(x, p, n);
}

// tanh x = sign(x)·(1 − e)/(1 + e), e = exp(−2|x|): absolute error of fp32 at 1.
static inline Vec tanh(Vec x) {
  Vec magnitude = max(x, sub(zero(), x));
  Vec e = exp(mul(broadcast(-2.0f), magnitude));
  Vec t = div(sub(broadcast(1.0f), e), add(broadcast(1.0f), e));
  return select_greater(zero(), x, sub(zero(), t), t);
}

// ---- logits ---------------------------------------------------------------------------------------------------------

// z = softcap(logit_scale·(z + bias)). bias: of the block's first class, or absent.
static void finish_logits(const LogitBlock& block, const LossOptions& options, const View& bias, int64_t first_class) {
  bool plain = options.logit_scale == 1 && options.softcap == 0 && !given(bias);
  if (plain) return;
  Vec scale = broadcast(options.logit_scale), cap = broadcast(options.softcap);
  for (int64_t c = 0; c < block.classes; c++) {
    float* row = block.z + c * block.stride;
    Vec offset = zero();
    if (given(bias) && bias.dtype == DType::f32) offset = broadcast(static_cast<float*>(bias.data)[first_class + c]);
    if (given(bias) && bias.dtype == DType::bf16)
      offset = broadcast(to_float(static_cast<bf16*>(bias.data)[first_class + c]));
    for (int64_t t = 0; t < block.tokens; t += kWidth) {
      Vec u = mul(scale, add(load(row + t), offset));
      store(row + t, options.softcap == 0 ? u : mul(cap, tanh(div(u, cap))));
    }
  }
}

// Takes the targets' logits out of the block: kept in target_logit, masked in z.
static void take_targets(const LogitBlock& block, int64_t first_class, const int32_t* targets, float* target_logit) {
  for (int64_t t = 0; t < block.tokens; t++) {
    int64_t c = targets[t] - first_class;
    if (c < 0 || c >= block.classes) continue;
    float* z = block.z + c * block.stride + t;
    target_logit[t] = *z;
    *z = kMasked;
  }
}

// ---- statistics -----------------------------------------------------------------------------------------------------

// Running statistics of each token over the classes but its target, one array per fact.
struct Statistics {
  float* largest;   // max z
  float* index;     // of the first class that has it, exact below 2²⁴
  float* sum;       // Σ exp(z − largest)
  float* logits;    // Σ z, with the target
  float* weighted;  // Σ exp(z − largest)·(z − largest)
  float* rank;      // number of z above the target's
};
constexpr int64_t kStatistics = 6;

static Statistics statistics_at(float* base, int64_t stride, int64_t token) {
  float* first = base + token;
  return {first, first + stride, first + 2 * stride, first + 3 * stride, first + 4 * stride, first + 5 * stride};
}

static void clear_statistics(const Statistics& statistics, int64_t facts, int64_t stride, int64_t tokens) {
  for (int64_t t = 0; t < tokens; t += kWidth) {
    store(statistics.largest + t, broadcast(kLowest));
    for (int64_t fact = 1; fact < facts; fact++) store(statistics.largest + fact * stride + t, zero());
  }
}

// Σ z before the targets are taken out.
static void add_logits(const LogitBlock& block, const Statistics& statistics) {
  for (int64_t t = 0; t < block.tokens; t += kWidth) {
    Vec sum = zero();
    for (int64_t c = 0; c < block.classes; c++) sum = add(sum, load(block.z + c * block.stride + t));
    store(statistics.logits + t, add(load(statistics.logits + t), sum));
  }
}

static void add_ranks(const LogitBlock& block, const Statistics& statistics, const float* target_logit) {
  for (int64_t t = 0; t < block.tokens; t += kWidth) {
    Vec target = load(target_logit + t), rank = load(statistics.rank + t);
    for (int64_t c = 0; c < block.classes; c++)
      rank = add(rank, select_greater(load(block.z + c * block.stride + t), target, broadcast(1.0f), zero()));
    store(statistics.rank + t, rank);
  }
}

// largest, index, sum and, when asked for, weighted. Two vectors of tokens at a time hide the latency of the chains.
template <bool kWeighted>
static void add_softmax(const LogitBlock& block, const Statistics& statistics, int64_t first_class) {
  constexpr int N = 2;
  for (int64_t t = 0; t < block.tokens; t += N * kWidth) {
    Vec largest[N], index[N], sum[N], weighted[N];
    for (int i = 0; i < N; i++) {
      largest[i] = load(statistics.largest + t + i * kWidth);
      index[i] = load(statistics.index + t + i * kWidth);
    }
    for (int64_t c = 0; c < block.classes; c++) {
      Vec number = broadcast(static_cast<float>(first_class + c));
      for (int i = 0; i < N; i++) {
        Vec z = load(block.z + c * block.stride + t + i * kWidth);
        index[i] = select_greater(z, largest[i], number, index[i]);
        largest[i] = max(largest[i], z);
      }
    }
    for (int i = 0; i < N; i++) {
      Vec drop = sub(load(statistics.largest + t + i * kWidth), largest[i]), before = exp(drop);
      sum[i] = load(statistics.sum + t + i * kWidth);
      if constexpr (kWeighted) {
        drop = max(drop, broadcast(kMasked));  // 0·(kLowest) stays finite
        weighted[i] = mul(before, fma(sum[i], drop, load(statistics.weighted + t + i * kWidth)));
      }
      sum[i] = mul(before, sum[i]);
    }
    for (int64_t c = 0; c < block.classes; c++)
      for (int i = 0; i < N; i++) {
        Vec below = sub(load(block.z + c * block.stride + t + i * kWidth), largest[i]);
        Vec e = exp_below(below);
        sum[i] = add(sum[i], e);
        if constexpr (kWeighted) weighted[i] = fma(e, below, weighted[i]);
      }
    for (int i = 0; i < N; i++) {
      store(statistics.largest + t + i * kWidth, largest[i]);
      store(statistics.index + t + i * kWidth, index[i]);
      store(statistics.sum + t + i * kWidth, sum[i]);
      if constexpr (kWeighted) store(statistics.weighted + t + i * kWidth, weighted[i]);
    }
  }
}

// ---- gradient -------------------------------------------------------------------------------------------------------

// Per token: ∂loss/∂(x·W_c) = (factor·exp(z_c − offset) − share)·slope(z_c) for every class but the target.
struct TokenGradient {
  const float *offset, *factor, *share;
};

// Where the gradient of a block goes: as rows of classes (the A of dW) and as columns of tokens (the packed B of dx).
template <class T>
struct GradientBlock {
  T* rows;  // (classes, tokens)
  int64_t stride;
  T* panel;  // of the block's first token, at its first class
  int64_t panel_elements;
  float* class_sums;        // (classes) Σ_t of the gradient, or nullptr
  float* exponential_sums;  // (tokens) Σ_c exp(z − offset), or nullptr
};

static inline void store_pair(const GradientBlock<float>& out, int64_t c, int64_t t, Vec even, Vec odd) {
  store(out.rows + c * out.stride + t, even);
  store(out.rows + (c + 1) * out.stride + t, odd);
  float* panel = out.panel + t / kPanel * out.panel_elements + t % kPanel;
  store(panel + c * kPanel, even);
  store(panel + (c + 1) * kPanel, odd);
}

#if defined(__AVX512F__)
static inline void store_pair(const GradientBlock<bf16>& out, int64_t c, int64_t t, Vec even, Vec odd) {
  bf16* row = out.rows + c * out.stride + t;
  bf16* panel = out.panel + t / kPanel * out.panel_elements + c * kPanel;
#if defined(__AVX512BF16__)
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), _mm512_castsi512_si256(both));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + out.stride), _mm512_extracti64x4_epi64(both, 1));
  _mm512_storeu_si512(panel, _mm512_permutexvar_epi16(order, both));
#else
  __m256i low = narrow(even), high = narrow(odd);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + out.stride), high);
  _mm512_storeu_si512(panel,
                      _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
#endif
}
#else
static inline void store_pair(const GradientBlock<bf16>& out, int64_t c, int64_t t, Vec even, Vec odd) {
  bf16* row = out.rows + c * out.stride + t;
  bf16* panel = out.panel + t / kPanel * out.panel_elements + c * kPanel + t % kPanel * 2;
  __m128i low = narrow(even), high = narrow(odd);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row), low);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + out.stride), high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(panel), _mm_unpacklo_epi16(low, high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(panel + 8), _mm_unpackhi_epi16(low, high));
}
#endif

// The gradient of one vector of tokens for one class, and exp(z − offset).
template <bool kSoftcap>
static inline Vec gradient_of(Vec z, const TokenGradient& token, int64_t t, Vec inverse_cap, Vec* exponential) {
  *exponential = exp_below(sub(z, load(token.offset + t)));
  Vec g = fma(load(token.factor + t), *exponential, sub(zero(), load(token.share + t)));
  if constexpr (kSoftcap) {
    Vec ratio = max(mul(z, inverse_cap), broadcast(-1.0f));  // a masked target would overflow
    g = mul(g, sub(broadcast(1.0f), mul(ratio, ratio)));
  }
  return g;
}

// Two classes, or the last one and zeros.
template <class T, bool kSoftcap, bool kOdd>
static inline void store_gradient_pair(const LogitBlock& block, const TokenGradient& token, Vec inverse_cap,
                                       const GradientBlock<T>& out, int64_t c) {
  const float *even_row = block.z + c * block.stride, *odd_row = even_row + block.stride;
  Vec even_sum = zero(), odd_sum = zero();
  for (int64_t t = 0; t < block.tokens; t += kWidth) {
    Vec odd = zero(), even_exp, odd_exp = zero();
    Vec even = gradient_of<kSoftcap>(load(even_row + t), token, t, inverse_cap, &even_exp);
    if constexpr (kOdd) odd = gradient_of<kSoftcap>(load(odd_row + t), token, t, inverse_cap, &odd_exp);
    store_pair(out, c, t, even, odd);
    even_sum = add(even_sum, even);
    odd_sum = add(odd_sum, odd);
    if (out.exponential_sums)
      store(out.exponential_sums + t, add(load(out.exponential_sums + t), add(even_exp, odd_exp)));
  }
  if (!out.class_sums) return;
  out.class_sums[c] = reduce_add(even_sum);
  if constexpr (kOdd) out.class_sums[c + 1] = reduce_add(odd_sum);
}

// Rows up to the next multiple of 32 are zero: a packed operand is whole there.
template <class T, bool kSoftcap>
static void store_gradient(const LogitBlock& block, const TokenGradient& token, float softcap,
                           const GradientBlock<T>& out) {
  Vec inverse_cap = broadcast(kSoftcap ? 1.0f / softcap : 0.0f);
  int64_t c = 0;
  for (; c + 1 < block.classes; c += 2) store_gradient_pair<T, kSoftcap, true>(block, token, inverse_cap, out, c);
  if (c < block.classes) store_gradient_pair<T, kSoftcap, false>(block, token, inverse_cap, out, c), c += 2;
  for (; c % 32; c += 2)
    for (int64_t t = 0; t < block.tokens; t += kWidth) store_pair(out, c, t, zero(), zero());
}

// The target's share is added in fp32 elsewhere: it must not enter the rounded matrix, not by label smoothing either.
template <class T>
static void clear_targets(const GradientBlock<T>& out, int64_t first_class, const int32_t* targets,
                          const TokenGradient& token, const LogitBlock& block, bool softcap) {
  constexpr int64_t kPair = sizeof(T) == 2 ? 2 : 1;  // classes in a word of the packed columns
  for (int64_t t = 0; t < block.tokens; t++) {
    int64_t c = targets[t] - first_class;
    if (c < 0 || c >= block.classes) continue;
    T* column = out.panel + t / kPanel * out.panel_elements + t % kPanel * kPair;
    out.rows[c * out.stride + t] = T{0};
    column[c / kPair * kPair * kPanel + c % kPair] = T{0};
    if (out.class_sums && !softcap) out.class_sums[c] += token.share[t];  // a softcap's slope is 0 at the mask
  }
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
