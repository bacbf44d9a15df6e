// The slots of the fused linear cross-entropy on CUDA: which kernels and products a call enqueues, chunk by chunk.
#include "cross_entropy.h"

#include "cross_entropy_shape.h"
#include "gemm.h"
#include "table.h"

namespace foretoken::cuda {

void launch_logits(const Call& call, LogitUse use, const Logits& logits) {
  if (logits.dtype == DType::f32) return launch_logits_f32(call, use, logits);
  auto starts_on_16 = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  bool aligned = starts_on_16(logits.hidden) && starts_on_16(logits.weight) && logits.width % 8 == 0;
  auto* launch = aligned ? launch_logits_bf16 : launch_logits_bf16_unaligned;
  launch(call, use, logits);
}

namespace {

// What may differ between levels.
struct Level {
  void (*multiply)(const Call&, const Product&);
  void (*exponentials)(const Call&, const Logits&);
};

void launch_exponentials(const Call& call, const Logits& logits) {
  launch_logits(call, LogitUse::exponentials, logits);
}

constexpr Level kSm80 = {multiply, launch_exponentials};
constexpr Level kSm90 = {multiply_sm90, launch_exponentials_sm90};

struct Inputs {
  In hidden, weight, bias, targets, limit;
  LossOptions options;
};

struct Gradients {
  InOut dhidden, dweight, dbias;
  bool accumulate_dhidden, accumulate_dweight;
};

// The element `offset` of a view's data.
void* element_at(const View& view, int64_t offset) {
  return static_cast<char*>(view.data) + offset * bytes_per_element(view.dtype);
}

// One call, and the chunk of rows that it is at.
class LossPass {
 public:
  LossPass(const Call& call, const Level& level, const Inputs& in, const LossShape& shape)
      : call_(call), level_(level), in_(in), shape_(shape), buffers_(shape, call.workspace) {}

  template <class Body>
  void for_chunks(Body body) {
    for (int64_t first = 0; first < shape_.rows; first += shape_.chunk) {
      range_ = {first, shape_.rows - first < shape_.chunk ? shape_.rows - first : shape_.chunk};
      Logits logits = chunk_logits();
      find_targets(call_, logits, in_.targets, in_.limit, in_.options.shift, shape_.rows, range_);
      launch_logits(call_, LogitUse::target, logits);
      body();
    }
  }

  void statistics(Upstream upstream, const LossOutputs& outputs) {
    Logits logits = chunk_logits();
    launch_logits(call_, LogitUse::statistics, logits);
    reduce_statistics(call_, logits, in_.options, upstream, range_, outputs);
  }

  void prepare(Upstream upstream, const float* lse) {
    prepare_gradient(call_, chunk_logits(), in_.options, upstream, range_, lse);
  }

  // E, the losses and all gradients of the chunk.
  void exponentials(Upstream upstream, const LossOutputs& outputs, const Gradients& out) {
    Logits logits = chunk_logits();
    logits.stored = buffers_.stored;
    level_.exponentials(call_, logits);
    reduce_exponentials(call_, logits, in_.options, upstream, range_, outputs, false);
    launch_logits(call_, LogitUse::redo, logits);
    reduce_exponentials(call_, logits, in_.options, upstream, range_, outputs, true);
    scale_rows(call_, logits, buffers_.scaled);
    add_to_dweight(logits, buffers_.scaled, upstream.scale, out);
    add_to_sums(logits, buffers_.row.factor, upstream.scale, false);
    finish(logits, 2, out);
  }

  // G slab by slab, and the gradients of the chunk. After `statistics` or `prepare`.
  void slabs(Upstream upstream, const Gradients& out) {
    Logits chunk = chunk_logits();
    chunk.partials = buffers_.gradient_partials;
    chunk.facts = kGradientFacts;
    for (int64_t first = 0; first < shape_.vocabulary; first += kSlab) {
      Logits slab = slab_logits(chunk, first);
      launch_logits(call_, LogitUse::gradient, slab);
      if (given(out.dbias))
        reduce_class_sums(call_, slab, static_cast<float*>(out.dbias.data) + first, accumulates(out));
      if (given(out.dweight)) add_to_dweight(slab, slab.hidden, nullptr, out);
      if (given(out.dhidden)) add_to_sums(slab, nullptr, nullptr, first > 0);
    }
    reduce_gradient(call_, chunk, in_.options, upstream, range_);
    finish(chunk, 1, out);
  }

 private:
  const Call& call_;
  const Level& level_;
  const Inputs& in_;
  const LossShape& shape_;
  LossBuffers buffers_;
  RowRange range_ = {};

  Logits chunk_logits() const {
    Logits logits = {};
    logits.dtype = shape_.dtype;
    logits.hidden = element_at(in_.hidden, range_.first * shape_.width);
    logits.weight = in_.weight.data;
    logits.bias = in_.bias.data;
    logits.bias_dtype = in_.bias.dtype;
    logits.rows = range_.count;
    logits.classes = logits.vocabulary = shape_.vocabulary;
    logits.width = shape_.width;
    logits.logit_scale = in_.options.logit_scale;
    logits.softcap = in_.options.softcap;
    logits.row = buffers_.row;
    logits.stride = shape_.stride();
    logits.partials = buffers_.partials;
    logits.partial_stride = shape_.chunk;
    logits.facts = shape_.facts;
    return logits;
  }

  Logits slab_logits(Logits slab, int64_t first) const {
    slab.first_class = first;
    slab.classes = shape_.vocabulary - first < kSlab ? shape_.vocabulary - first : kSlab;
    slab.weight = element_at(in_.weight, first * shape_.width);
    if (given(in_.bias)) slab.bias = element_at(in_.bias, first);
    slab.stored = buffers_.stored;
    slab.class_sums = buffers_.class_sums;
    return slab;
  }

  // Whether the chunk's part of dweight and dbias is added to what is there.
  bool accumulates(const Gradients& out) const { return out.accumulate_dweight || range_.first > 0; }

  // dweight (+)= alpha·storedᵀ·rows. rows (C,d)
  void add_to_dweight(const Logits& logits, const void* rows, const float* alpha, const Gradients& out) const {
    Product product;
    product.order = Order::tn;
    product.m = logits.classes, product.n = shape_.width, product.k = logits.rows;
    product.a = {logits.stored, shape_.dtype, logits.stride};
    product.b = {const_cast<void*>(rows), shape_.dtype, shape_.width};
    product.d = {element_at(out.dweight, logits.first_class * shape_.width), DType::f32, shape_.width};
    if (accumulates(out)) product.c = product.d;
    product.alpha = alpha;
    level_.multiply(call_, product);
  }

  // sums (+)= alpha·row_scale·stored·W
  void add_to_sums(const Logits& logits, const float* row_scale, const float* alpha, bool accumulate) const {
    Product product;
    product.order = Order::nn;
    product.m = logits.rows, product.n = shape_.width, product.k = logits.classes;
    product.a = {logits.stored, shape_.dtype, logits.stride};
    product.b = {const_cast<void*>(logits.weight), shape_.dtype, shape_.width};
    product.d = {buffers_.sums, DType::f32, shape_.width};
    if (accumulate) product.c = product.d;
    product.row_scale = row_scale;
    product.alpha = alpha;
    level_.multiply(call_, product);
  }

  // The exact entries, and dhidden last: it may lie over hidden.
  void finish(const Logits& logits, int64_t entries, const Gradients& out) const {
    if (given(out.dweight) || given(out.dbias))
      add_exact_to_weight(call_, logits, entries, static_cast<float*>(out.dweight.data),
                          static_cast<float*>(out.dbias.data));
    if (given(out.dhidden))
      finish_dhidden(call_, logits, entries, buffers_.sums, out.dhidden, range_.first, out.accumulate_dhidden);
  }
};

// ---- shapes ---------------------------------------------------------------------------------------------------------

LossShape shape_of(const In& hidden, const In& weight, LossWay way, int64_t facts, bool class_sums) {
  return with_chunk({hidden.dtype, row_count(hidden), last_dimension(hidden), weight.shape[0], way, facts, class_sums});
}

// Label smoothing and the gradient of a bias need exact probabilities; few rows of many classes would be all logits at
// once.
LossShape train_shape(const In& hidden, const In& weight, double label_smoothing, const InOut& dbias) {
  constexpr int64_t kFewRows = 1024;
  bool few = row_count(hidden) < kFewRows && weight.shape[0] > kSlab;
  if (few || label_smoothing != 0 || given(dbias))
    return shape_of(hidden, weight, LossWay::slabs, kLogitSum + 1, given(dbias));
  return shape_of(hidden, weight, LossWay::exponentials, kExponentialFacts, false);
}

size_t workspace_bytes(const LossShape& shape) { return shape.rows > 0 ? LossBuffers(shape, nullptr).bytes() : 0; }

// A call without rows.
bool nothing_to_do(const Call& call, const In& hidden, const Gradients& out) {
  if (row_count(hidden) > 0) return false;
  if (!out.accumulate_dweight) fill_zeros(call, out.dweight), fill_zeros(call, out.dbias);
  return true;
}

LossOptions options_of(int64_t shift, double label_smoothing, double z_loss, double logit_scale, double softcap) {
  return {shift, static_cast<float>(label_smoothing), static_cast<float>(z_loss), static_cast<float>(logit_scale),
          static_cast<float>(softcap)};
}

float* floats(const View& view) { return static_cast<float*>(view.data); }
int32_t* integers(const View& view) { return static_cast<int32_t*>(view.data); }

// ---- the slots ------------------------------------------------------------------------------------------------------

void linear_cross_entropy(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                          double label_smoothing, double z_loss, double logit_scale, double softcap, Out loss, Out lse,
                          Out argmax, Out rank, Out entropy) {
  Inputs in = {hidden, weight, bias, targets, limit, options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  LossOutputs outputs = {floats(loss), floats(lse), integers(argmax), integers(rank), floats(entropy)};
  LossShape shape = shape_of(hidden, weight, LossWay::statistics, kFacts, false);
  LossPass pass(call, kSm80, in, shape);
  pass.for_chunks([&] { pass.statistics({}, outputs); });
}

size_t linear_cross_entropy_workspace(const Machine&, In hidden, In weight, In, In, In, int64_t, double, double, double,
                                      double, Out, Out, Out, Out, Out) {
  return workspace_bytes(shape_of(hidden, weight, LossWay::statistics, kFacts, false));
}

template <const Level& level>
void linear_cross_entropy_backward(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                   double label_smoothing, double z_loss, double logit_scale, double softcap, In lse,
                                   In upstream, InOut dhidden, InOut dweight, InOut dbias, bool accumulate_dhidden,
                                   bool accumulate_dweight) {
  Inputs in = {hidden, weight, bias, targets, limit, options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  Gradients out = {dhidden, dweight, dbias, accumulate_dhidden, accumulate_dweight};
  if (nothing_to_do(call, hidden, out)) return;
  bool per_row = element_count(upstream) > 1;
  Upstream gradient = {per_row ? nullptr : floats(upstream), per_row ? floats(upstream) : nullptr};
  LossShape shape = shape_of(hidden, weight, LossWay::slabs, 0, given(dbias));
  LossPass pass(call, level, in, shape);
  pass.for_chunks([&] {
    pass.prepare(gradient, floats(lse));
    pass.slabs(gradient, out);
  });
}

size_t linear_cross_entropy_backward_workspace(const Machine&, In hidden, In weight, In, In, In, int64_t, double,
                                               double, double, double, In, In, InOut, InOut, InOut dbias, bool, bool) {
  return workspace_bytes(shape_of(hidden, weight, LossWay::slabs, 0, given(dbias)));
}

template <const Level& level>
void linear_cross_entropy_train(const Call& call, In hidden, In weight, In bias, In targets, In limit, int64_t shift,
                                double label_smoothing, double z_loss, double logit_scale, double softcap, In scale,
                                In row_weight, Out loss, Out argmax, InOut dhidden, InOut dweight, InOut dbias,
                                bool accumulate_dhidden, bool accumulate_dweight) {
  Inputs in = {hidden, weight, bias, targets, limit, options_of(shift, label_smoothing, z_loss, logit_scale, softcap)};
  Gradients out = {dhidden, dweight, dbias, accumulate_dhidden, accumulate_dweight};
  if (nothing_to_do(call, hidden, out)) return;
  LossOutputs outputs = {floats(loss), nullptr, integers(argmax), nullptr, nullptr};
  Upstream upstream = {floats(scale), floats(row_weight)};
  LossShape shape = train_shape(hidden, weight, label_smoothing, dbias);
  LossPass pass(call, level, in, shape);
  pass.for_chunks([&] {
    if (shape.way == LossWay::exponentials) return pass.exponentials(upstream, outputs, out);
    pass.statistics(upstream, outputs);
    pass.slabs(upstream, out);
  });
}

size_t linear_cross_entropy_train_workspace(const Machine&, In hidden, In weight, In, In, In, int64_t,
                                            double label_smoothing, double, double, double, In, In, Out, Out, InOut,
                                            InOut, InOut dbias, bool, bool) {
  return workspace_bytes(train_shape(hidden, weight, label_smoothing, dbias));
}

template <const Level& level>
void fill_gradients(Kernels& table) {
  table.linear_cross_entropy_backward = {linear_cross_entropy_backward<level>, linear_cross_entropy_backward_workspace};
  table.linear_cross_entropy_train = {linear_cross_entropy_train<level>, linear_cross_entropy_train_workspace};
}

}  // namespace

void fill_cross_entropy(Kernels& table) {
  table.linear_cross_entropy = {linear_cross_entropy, linear_cross_entropy_workspace};
  fill_gradients<kSm80>(table);
}

void fill_cross_entropy_sm90(Kernels& table) { fill_gradients<kSm90>(table); }

}  // namespace foretoken::cuda
