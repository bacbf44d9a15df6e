// Fused linear cross-entropy in blocks that stay in cache; never a (T,V) array. generic/cross_entropy.cpp has the
// formulas, cross_entropy_workspace.h the two modes, cross_entropy_block.h the arithmetic on a block.
//
// For each chunk of tokens:
//   statistics   block = W·xᵀ → running maximum, sum, argmax per token and slab of classes, then per token its loss
//   gradient     slab by slab of classes: G = factor·exp(z − offset) − share without the targets, in T, twice:
//                dW = G·x (rows), dxᵀ += Wᵀ·G (columns)
//   finish       the targets' shares, in fp32 from unrounded values, in token order; dx across
// The per-token factor goes into G before its one rounding, whose relative error it does not change.
#pragma once
#include "cross_entropy_workspace.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

struct LossInputs {
  In hidden, weight, bias, targets, limit;
  LossOptions options;
};

struct LossOutputs {
  Out loss, lse, argmax, rank, entropy;
};

struct GradientOutputs {
  InOut dhidden, dweight, dbias;
  bool accumulate_dhidden, accumulate_dweight;
};

// What a token's logits come to, relative to the largest of them.
struct TokenSummary {
  float offset, others, total, log_total;  // Σ_{j≠y} and Σ_j exp(z_j − offset), log(total)
  float target_logit, logits, weighted, rank;
  int32_t argmax;
};

template <class T>
const T* row_of(const View& view, int64_t r, int64_t columns) {
  return static_cast<const T*>(view.data) + r * columns;
}

// The class that row r must predict, or −1 where it is ignored.
int32_t target_of(const LossInputs& in, int64_t r, int64_t tokens, int64_t vocabulary) {
  int64_t stored = last_dimension(in.targets), position = r % tokens + in.options.shift;
  if (position < 0 || position >= stored) return -1;
  if (given(in.limit) && position > static_cast<const int32_t*>(in.limit.data)[r]) return -1;
  int32_t y = static_cast<const int32_t*>(in.targets.data)[r / tokens * stored + position];
  return y >= 0 && y < vocabulary ? y : -1;
}

template <class T>
struct LossPass {
  static constexpr DType kDType = sizeof(T) == 2 ? DType::bf16 : DType::f32;

  const Call& call;
  const LossInputs& in;
  LossShape shape;
  LossParts parts;
  Carver carver;
  LossBuffers<T> buffers;
  int64_t first_row = 0, tokens = 0, columns = 0;  // of the chunk; columns: tokens padded

  LossPass(const Call& call_, const LossInputs& in_, const LossShape& shape_, const LossParts& parts_)
      : call(call_),
        in(in_),
        shape(shape_),
        parts(parts_),
        carver{static_cast<char*>(call_.workspace)},
        buffers(carver, shape_, parts_, call_.parallel ? call_.parallel->threads : 1) {}

  int64_t token_blocks() const { return (columns + kTokenBlock - 1) / kTokenBlock; }
  int64_t block_tokens(int64_t first) const { return smaller(kTokenBlock, columns - first); }
  Statistics statistics(int64_t slab, int64_t token) const {
    return statistics_at(buffers.statistics + slab * parts.facts * shape.chunk, shape.chunk, token);
  }

  // ---- a chunk begins ---------------------------------------------------------------------------------------------

  void begin_chunk(int64_t row) {
    first_row = row;
    tokens = smaller(shape.chunk, shape.rows - row);
    columns = round_up(tokens, kTokenStep);
    int64_t sequences = row_count(in.targets), sequence_tokens = shape.rows / sequences;
    for (int64_t t = 0; t < columns; t++) {
      buffers.targets[t] = t < tokens ? target_of(in, row + t, sequence_tokens, shape.vocabulary) : -1;
      buffers.target_logit[t] = buffers.target_gradient[t] = buffers.others[t] = 0;
      buffers.offset[t] = buffers.factor[t] = buffers.share[t] = 0;
    }
    pack_hidden();
  }

  void pack_hidden() {
    constexpr int64_t kPackColumns = 128;
    int64_t width = shape.width, across_tasks = (columns + kPackColumns - 1) / kPackColumns;
    int64_t row_tasks = parts.gradients ? (width + kPackColumns - 1) / kPackColumns : 0;
    const T* x = row_of<T>(in.hidden, first_row, width);
    parallel_for(call, across_tasks + row_tasks, [&](int64_t task, int) {
      if (task < across_tasks) {
        int64_t t0 = task * kPackColumns, t1 = smaller(t0 + kPackColumns, columns);
        pack_b(Matrix{x, kDType, width, tokens, width, true}, t0, larger(t0, smaller(t1, tokens)),
               buffers.hidden_columns);
        char* end = panel(buffers.hidden_columns, width, t1);
        char* padding = panel(buffers.hidden_columns, width, larger(t0, round_up(smaller(t1, tokens), kPanel)));
        if (padding < end) __builtin_memset(padding, 0, end - padding);
      } else {
        int64_t c0 = (task - across_tasks) * kPackColumns;
        pack_b(Matrix{x, kDType, tokens, width, width, false}, c0, smaller(c0 + kPackColumns, width),
               buffers.hidden_rows);
      }
    });
  }

  static char* panel(void* packed, int64_t k, int64_t column) {
    return static_cast<char*>(const_cast<void*>(packed_panel(kDType, packed, k, column)));
  }

  // ---- logits -----------------------------------------------------------------------------------------------------

  // Block of `classes` ≤ kClassBlock classes × tokens [t, t + block_tokens(t)).
  LogitBlock block_at(int64_t first_class, int64_t t, int worker) const {
    int64_t classes = smaller(kClassBlock, shape.vocabulary - first_class);
    if (shape.stored)
      return {buffers.logits + first_class * buffers.logits_stride + t, buffers.logits_stride, classes,
              block_tokens(t)};
    int64_t stride = LossBuffers<T>::kScratchStride;
    return {buffers.scratch + worker * kClassBlock * stride, stride, classes, block_tokens(t)};
  }

  void compute_logits(const LogitBlock& block, int64_t first_class, int64_t t, int worker) const {
    int64_t width = shape.width;
    if (parts.packed) {
      float* across = buffers.packed_scratch + worker * kTokenBlock * kClassBlock;
      int64_t rows = larger(0, smaller(block.tokens, tokens - t));
      gemm_block(kDType, row_of<T>(in.hidden, first_row + t, width), width,
                 packed_panel(kDType, in.weight.data, width, first_class), rows, block.classes, width, across,
                 kClassBlock, false);
      transpose(DType::f32, across, kClassBlock, rows, block.classes, block.z, block.stride);
    } else {
      gemm_block(kDType, row_of<T>(in.weight, first_class, width), width, panel(buffers.hidden_columns, width, t),
                 block.classes, block.tokens, width, block.z, block.stride, false);
    }
    finish_logits(block, in.options, in.bias, first_class);
  }

  // z of every target, before the blocks are seen: what ranks are counted against. Bit for bit the block's value.
  void compute_target_logits() {
    constexpr int64_t kTask = 64;
    int64_t width = shape.width;
    parallel_for(call, (tokens + kTask - 1) / kTask, [&](int64_t task, int) {
      for (int64_t t = task * kTask; t < smaller(tokens, task * kTask + kTask); t++) {
        int64_t y = buffers.targets[t], lane = parts.packed ? y % kPanel : t % kPanel;
        if (y < 0) continue;
        float z[kPanel];
        if (parts.packed)
          gemm_block(kDType, row_of<T>(in.hidden, first_row + t, width), width,
                     packed_panel(kDType, in.weight.data, width, y - lane), 1, kPanel, width, z, kPanel, false);
        else
          gemm_block(kDType, row_of<T>(in.weight, y, width), width, panel(buffers.hidden_columns, width, t - lane), 1,
                     kPanel, width, z, kPanel, false);
        finish_logits({z, kPanel, 1, kPanel}, in.options, in.bias, y);
        buffers.target_logit[t] = z[lane];
      }
    });
  }

  // ---- statistics -------------------------------------------------------------------------------------------------

  void compute_statistics() {
    parallel_for(call, shape.statistics_slabs() * token_blocks(), [&](int64_t task, int worker) {
      int64_t slab = task / token_blocks(), t = task % token_blocks() * kTokenBlock;
      Statistics facts = statistics(slab, t);
      clear_statistics(facts, parts.facts, shape.chunk, block_tokens(t));
      int64_t last = smaller(shape.vocabulary, (slab + 1) * kStatisticsSlab);
      for (int64_t c = slab * kStatisticsSlab; c < last; c += kClassBlock) {
        LogitBlock block = block_at(c, t, worker);
        compute_logits(block, c, t, worker);
        if (parts.facts > 5) add_ranks(block, facts, buffers.target_logit + t);
        if (parts.facts > 3) add_logits(block, facts);
        take_targets(block, c, buffers.targets + t, buffers.target_logit + t);
        if (parts.facts > 4)
          add_softmax<true>(block, facts, c);
        else
          add_softmax<false>(block, facts, c);
      }
    });
  }

  TokenSummary summarize(int64_t t) const {
    TokenSummary token = {};
    float largest = kLowest, index = 0;
    bool has_target = buffers.targets[t] >= 0;
    token.target_logit = has_target ? buffers.target_logit[t] : kLowest;
    for (int64_t slab = 0; slab < shape.statistics_slabs(); slab++) {
      Statistics facts = statistics(slab, t);
      if (*facts.largest > largest) largest = *facts.largest, index = *facts.index;
    }
    bool target_leads = has_target && !(largest > token.target_logit);
    token.offset = target_leads ? token.target_logit : largest;
    token.argmax = static_cast<int32_t>(index);
    bool tie = target_leads && largest == token.target_logit && token.argmax < buffers.targets[t];
    if (target_leads && !tie) token.argmax = buffers.targets[t];
    for (int64_t slab = 0; slab < shape.statistics_slabs(); slab++) {
      Statistics facts = statistics(slab, t);
      float drop = *facts.largest - token.offset, before = __builtin_expf(drop);
      token.others += before * *facts.sum;
      if (parts.facts > 3) token.logits += *facts.logits;
      if (parts.facts > 4 && before > 0) token.weighted += before * (*facts.weighted + *facts.sum * drop);
      if (parts.facts > 5) token.rank += *facts.rank;
    }
    float target = has_target ? __builtin_expf(token.target_logit - token.offset) : 0;
    token.total = token.others + target;
    if (has_target && target > 0) token.weighted += target * (token.target_logit - token.offset);
    token.log_total = target_leads ? __builtin_log1pf(token.others) : __builtin_logf(token.total);
    return token;
  }

  // (1−ε)(lse − z_y) + ε(lse − mean z) + z_loss·lse², each difference taken from the largest logit.
  float loss_of(const TokenSummary& token) const {
    float smoothing = in.options.label_smoothing, lse = token.offset + token.log_total;
    float loss = (1 - smoothing) * ((token.offset - token.target_logit) + token.log_total);
    if (smoothing != 0)
      loss += smoothing * ((token.offset - token.logits / static_cast<float>(shape.vocabulary)) + token.log_total);
    return loss + in.options.z_loss * lse * lse;
  }

  // body(t, summary) for every token of the chunk.
  template <class Body>
  void for_tokens(Body body) {
    parallel_for(call, (tokens + kTokenBlock - 1) / kTokenBlock, [&](int64_t block, int) {
      for (int64_t t = block * kTokenBlock; t < smaller(tokens, (block + 1) * kTokenBlock); t++) body(t, summarize(t));
    });
  }

  void write_outputs(const LossOutputs& out, int64_t t, const TokenSummary& token) const {
    int64_t r = first_row + t;
    bool ignored = buffers.targets[t] < 0;
    static_cast<float*>(out.loss.data)[r] = ignored ? 0 : loss_of(token);
    if (given(out.lse)) static_cast<float*>(out.lse.data)[r] = token.offset + token.log_total;
    if (given(out.argmax)) static_cast<int32_t*>(out.argmax.data)[r] = token.argmax;
    if (given(out.rank)) static_cast<int32_t*>(out.rank.data)[r] = ignored ? -1 : static_cast<int32_t>(token.rank);
    if (given(out.entropy)) static_cast<float*>(out.entropy.data)[r] = token.log_total - token.weighted / token.total;
  }

  // ---- gradient ---------------------------------------------------------------------------------------------------

  // The row's part of the gradient for a loss weighted by `upstream`; normalizer: Σ exp(z − offset).
  void set_gradient(int64_t t, float upstream, float offset, float normalizer, float lse) {
    bool ignored = buffers.targets[t] < 0;
    float scale = in.options.logit_scale * upstream;
    buffers.offset[t] = offset;
    buffers.factor[t] = ignored ? 0 : scale * (1 + 2 * in.options.z_loss * lse) / normalizer;
    buffers.share[t] = ignored ? 0 : scale * in.options.label_smoothing / static_cast<float>(shape.vocabulary);
  }

  // others: 1 − p_y without the cancellation.
  void set_target_gradient(int64_t t, float upstream, float others, float lse) {
    if (buffers.targets[t] < 0) return;
    float smoothing = in.options.label_smoothing, cap = in.options.softcap;
    float ratio = cap == 0 ? 0 : buffers.target_logit[t] / cap;
    float dz = smoothing - smoothing / static_cast<float>(shape.vocabulary) - others +
               2 * in.options.z_loss * lse * (1 - others);
    buffers.target_gradient[t] = upstream * in.options.logit_scale * dz * (1 - ratio * ratio);
  }

  void compute_gradients(const GradientOutputs& out) {
    for (int64_t c = 0; c < shape.vocabulary; c += shape.slab) {
      int64_t classes = smaller(shape.slab, shape.vocabulary - c);
      compute_slab(out, c, classes);
      sum_partials(out, c, classes);
      multiply_slab(out, c, classes);
    }
  }

  // G of one slab, and its W across.
  void compute_slab(const GradientOutputs& out, int64_t first_class, int64_t classes) {
    int64_t blocks = (classes + kClassBlock - 1) / kClassBlock, depth = round_up(classes, 32);
    int64_t across_tasks = given(out.dhidden) ? blocks : 0;
    parallel_for(call, across_tasks + blocks * token_blocks(), [&](int64_t task, int worker) {
      if (task < across_tasks) return turn_weight(first_class, task * kClassBlock, classes, depth);
      task -= across_tasks;
      int64_t class_block = task % blocks, token_block = task / blocks, t = token_block * kTokenBlock;
      int64_t c = class_block * kClassBlock;
      LogitBlock block = block_at(first_class + c, t, worker);
      if (!shape.stored) {
        compute_logits(block, first_class + c, t, worker);
        take_targets(block, first_class + c, buffers.targets + t, buffers.target_logit + t);
      }
      GradientBlock<T> gradient = gradient_block(depth, c, t);
      gradient.class_sums = parts.class_sums ? buffers.class_sums + token_block * shape.slab + c : nullptr;
      if (parts.exponential_sums) {
        gradient.exponential_sums = buffers.exponential_sums + class_block * shape.chunk + t;
        __builtin_memset(gradient.exponential_sums, 0, block.tokens * sizeof(float));
      }
      TokenGradient token = {buffers.offset + t, buffers.factor + t, buffers.share + t};
      bool softcap = in.options.softcap != 0;
      if (softcap)
        store_gradient<T, true>(block, token, in.options.softcap, gradient);
      else
        store_gradient<T, false>(block, token, 0, gradient);
      clear_targets(gradient, first_class + c, buffers.targets + t, token, block, softcap);
    });
  }

  GradientBlock<T> gradient_block(int64_t depth, int64_t c, int64_t t) const {
    int64_t panel_elements = packed_bytes(kDType, depth, kPanel) / static_cast<int64_t>(sizeof(T));
    T* column = static_cast<T*>(buffers.gradient_columns) + t / kPanel * panel_elements + c * kPanel;
    return {buffers.gradient_rows + c * buffers.gradient_stride + t,
            buffers.gradient_stride,
            column,
            panel_elements,
            nullptr,
            nullptr};
  }

  // Classes [c, c + kClassBlock) of the slab become columns of Wᵀ, zero from `classes` to `depth`.
  void turn_weight(int64_t first_class, int64_t c, int64_t classes, int64_t depth) {
    int64_t width = shape.width, count = smaller(kClassBlock, classes - c);
    transpose(kDType, row_of<T>(in.weight, first_class + c, width), width, count, width, buffers.weight_columns + c,
              buffers.weight_stride);
    for (int64_t i = 0; c + count == classes && i < width; i++)
      for (int64_t padding = classes; padding < depth; padding++)
        buffers.weight_columns[i * buffers.weight_stride + padding] = T{0};
  }

  // Per-block sums of the slab, added in order.
  void sum_partials(const GradientOutputs& out, int64_t first_class, int64_t classes) {
    for (int64_t c = 0; parts.exponential_sums && c < classes; c += kClassBlock)
      for (int64_t t = 0; t < columns; t++)
        buffers.others[t] += buffers.exponential_sums[c / kClassBlock * shape.chunk + t];
    if (!parts.class_sums) return;
    float* dbias = static_cast<float*>(out.dbias.data) + first_class;
    bool accumulate = out.accumulate_dweight || first_row > 0;
    for (int64_t c = 0; c < classes; c++) {
      float sum = accumulate ? dbias[c] : 0;
      for (int64_t block = 0; block < token_blocks(); block++) sum += buffers.class_sums[block * shape.slab + c];
      dbias[c] = sum;
    }
  }

  // dW of the slab = G·x, and dxᵀ += Wᵀ·G.
  void multiply_slab(const GradientOutputs& out, int64_t first_class, int64_t classes) {
    constexpr int64_t kClasses = 128, kColumns = 256, kRows = 256;
    int64_t width = shape.width, depth = round_up(classes, 32);
    int64_t class_tasks = (classes + kClasses - 1) / kClasses, width_tasks = (width + kColumns - 1) / kColumns;
    int64_t dweight_tasks = given(out.dweight) ? class_tasks * width_tasks : 0;
    int64_t row_tasks = (width + kRows - 1) / kRows;
    int64_t dhidden_tasks = given(out.dhidden) ? token_blocks() * row_tasks : 0;
    parallel_for(call, dweight_tasks + dhidden_tasks, [&](int64_t task, int) {
      if (task < dweight_tasks) {
        int64_t c = task / width_tasks * kClasses, i = task % width_tasks * kColumns;
        float* dweight = static_cast<float*>(out.dweight.data) + (first_class + c) * width + i;
        gemm_block(kDType, buffers.gradient_rows + c * buffers.gradient_stride, buffers.gradient_stride,
                   panel(buffers.hidden_rows, tokens, i), smaller(kClasses, classes - c), smaller(kColumns, width - i),
                   tokens, dweight, width, out.accumulate_dweight || first_row > 0);
        return;
      }
      task -= dweight_tasks;
      int64_t t = task / row_tasks * kTokenBlock, i = task % row_tasks * kRows, stride = shape.chunk + 16;
      gemm_block(kDType, buffers.weight_columns + i * buffers.weight_stride, buffers.weight_stride,
                 panel(buffers.gradient_columns, depth, t), smaller(kRows, width - i), block_tokens(t), depth,
                 buffers.dhidden + i * stride + t, stride, first_class > 0);
    });
  }

  // ---- the targets' shares ----------------------------------------------------------------------------------------

  // dW[y] += g_y·x in token order: every task owns some columns.
  void add_target_rows(const GradientOutputs& out) {
    constexpr int64_t kColumns = 64;
    int64_t width = shape.width;
    for (int64_t t = 0; given(out.dbias) && t < tokens; t++)
      if (buffers.targets[t] >= 0)
        static_cast<float*>(out.dbias.data)[buffers.targets[t]] += buffers.target_gradient[t];
    if (!given(out.dweight)) return;
    parallel_for(call, (width + kColumns - 1) / kColumns, [&](int64_t task, int) {
      int64_t first = task * kColumns, count = smaller(kColumns, width - first);
      for (int64_t t = 0; t < tokens; t++) {
        if (buffers.targets[t] < 0) continue;
        float* row = static_cast<float*>(out.dweight.data) + buffers.targets[t] * width + first;
        add_scaled(row, buffers.target_gradient[t], row_of<T>(in.hidden, first_row + t, width) + first, count);
      }
    });
  }

  static void add_scaled(float* sum, float factor, const T* x, int64_t count) {
    Vec scale = broadcast(factor);
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(sum + i, fma(scale, load(x + i), load(sum + i)));
    if (i < count) store_n(sum + i, fma(scale, load_n(x + i, count - i), load_n(sum + i, count - i)), count - i);
  }

  // dx = dxᵀ across + g_y·W[y]. After add_target_rows: dx may lie over x.
  void finish_dhidden(const GradientOutputs& out) {
    if (!given(out.dhidden)) return;
    int64_t width = shape.width;
    parallel_for(call, (tokens + kPanel - 1) / kPanel, [&](int64_t task, int worker) {
      int64_t first = task * kPanel, count = smaller(kPanel, tokens - first);
      float* rows = buffers.dhidden_rows + worker * kPanel * width;
      transpose(DType::f32, buffers.dhidden + first, shape.chunk + 16, width, count, rows, width);
      for (int64_t i = 0; i < count; i++) {
        int64_t t = first + i, r = first_row + t;
        float* row = rows + i * width;
        if (buffers.targets[t] >= 0)
          add_scaled(row, buffers.target_gradient[t], row_of<T>(in.weight, buffers.targets[t], width), width);
        if (out.dhidden.dtype == DType::f32)
          store_row(static_cast<float*>(out.dhidden.data) + r * width, row, width, out.accumulate_dhidden);
        else
          store_row(static_cast<bf16*>(out.dhidden.data) + r * width, row, width, out.accumulate_dhidden);
      }
    });
  }

  template <class Y>
  static void store_row(Y* y, const float* sum, int64_t count, bool accumulate) {
    for (int64_t i = 0; i < count; i += kWidth) {
      int64_t left = count - i;
      Vec value = load_n(sum + i, left);
      if (accumulate) value = add(value, load_n(y + i, left));
      store_n(y + i, value, left);
    }
  }

  void finish_gradients(const GradientOutputs& out) {
    add_target_rows(out);
    finish_dhidden(out);
  }
};

}  // namespace
}  // namespace FORETOKEN_LEVEL_NAMESPACE
