// How the fused cross-entropy cuts its work on CUDA, and the workspace that follows from it: the query and the run
// build the same objects. Shapes decide, nothing else.
#pragma once
#include "cross_entropy.h"
#include "workspace.h"

namespace foretoken::cuda {

// The ways through a call (cross_entropy.h); statistics: the loss alone.
enum class LossWay { statistics, slabs, exponentials };

// Classes whose G exists at once in slabs. Fixed: where the sums of dhidden are cut must not depend on the rows.
constexpr int64_t kSlab = 8192;

struct LossShape {
  DType dtype;
  int64_t rows, width, vocabulary;
  LossWay way;
  int64_t facts;  // that the logits' blocks keep of each row before any gradient
  bool class_sums;
  int64_t chunk = 0;  // rows handled together, a multiple of kLogitBlock

  int64_t class_blocks() const { return (vocabulary + kLogitBlock - 1) / kLogitBlock; }
  // Columns of E or G: rows start on 16 bytes.
  int64_t stride() const {
    int64_t columns = way == LossWay::slabs && vocabulary > kSlab ? kSlab : vocabulary;
    return (columns + 7) / 8 * 8;
  }
};

// Pieces of the workspace; without a workspace they are only counted.
struct LossBuffers {
  LossRows row = {};
  float *partials = nullptr, *gradient_partials = nullptr;  // (class blocks, facts, C)
  void *stored = nullptr, *scaled = nullptr;                // E or G (C, stride); factor·x (C,d)
  float *sums = nullptr, *class_sums = nullptr;             // of dhidden (C,d); (row blocks, stride)

  LossBuffers(const LossShape& shape, void* workspace) : parts_(workspace, kAlignment) {
    int64_t chunk = shape.chunk, element = bytes_per_element(shape.dtype);
    float** floats[] = {&row.target_logit, &row.offset, &row.factor, &row.share, &row.normalizer, &row.lse};
    for (float** array : floats) *array = parts_.take<float>(chunk);
    row.target = parts_.take<int32_t>(chunk);
    row.redo = parts_.take<int32_t>(chunk);
    row.exact_class = parts_.take<int32_t>(2 * chunk);
    row.exact_gradient = parts_.take<float>(2 * chunk);
    // What is not needed at the same time shares its place: the first partials and what goes into the products.
    size_t shared = parts_.bytes();
    partials = parts_.take<float>(shape.class_blocks() * shape.facts * chunk);
    size_t end = parts_.bytes();
    if (shape.way == LossWay::statistics) return;
    parts_.go_back_to(shared);
    if (shape.way == LossWay::exponentials) scaled = parts_.take<char>(chunk * shape.width * element);
    sums = parts_.take<float>(chunk * shape.width);
    if (shape.class_sums) class_sums = parts_.take<float>(chunk / kLogitBlock * shape.stride());
    parts_.skip_to(end);
    if (shape.way == LossWay::slabs)
      gradient_partials = parts_.take<float>(shape.class_blocks() * kGradientFacts * chunk);
    stored = parts_.take<char>(chunk * shape.stride() * element);
  }

  size_t bytes() const { return parts_.bytes(); }

 private:
  static constexpr size_t kAlignment = 128;
  Workspace parts_;
};

// Longest chunk whose workspace keeps to the budget; chunks of one call are equally long.
inline LossShape with_chunk(LossShape shape) {
  constexpr int64_t kBudget = 512 << 20;
  int64_t longest = 8192, shortest = kLogitBlock;
  if (shape.way == LossWay::statistics) longest = 2048;
  // dweight passes through memory once a chunk, which 2048 rows of bf16 arithmetic hide, and fewer of f32.
  if (shape.way == LossWay::exponentials) shortest = shape.dtype == DType::bf16 ? 2048 : 512;
  shape.chunk = longest;
  while (shape.chunk > shortest && static_cast<int64_t>(LossBuffers(shape, nullptr).bytes()) > kBudget)
    shape.chunk -= kLogitBlock;
  int64_t chunks = (shape.rows + shape.chunk - 1) / shape.chunk,
          rows = (shape.rows + chunks - 1) / (chunks ? chunks : 1);
  shape.chunk = (rows + kLogitBlock - 1) / kLogitBlock * kLogitBlock;
  return shape;
}

}  // namespace foretoken::cuda
