// Is the fused linear cross-entropy faster than the same thing composed of our own products with full logits, and what
// memory does it take? Forward and backward together, as a training step needs them.
// Each line: median ms of both, their ratio, GFLOP/s of the fused one counting 6TdV, workspace against full logits.
//
//   cross_entropy [level …]      the machine's own level unless named; FORETOKEN_THREADS threads
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/bf16.h"
#include "core/thread_pool.h"
#include "cpu/backend.h"

using namespace foretoken;

namespace {

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Threads {
  std::shared_ptr<ThreadPool> pool = ThreadPool::shared();
  std::atomic<bool> cancelled{false};
  PoolParallel parallel{pool, cancelled};
};

// Memory that a call may use, and its view.
struct Bytes {
  explicit Bytes(size_t count) : size(count), data(std::aligned_alloc(4096, (count + 4096) / 4096 * 4096), std::free) {
    std::memset(data.get(), 0, count);
  }
  size_t size;
  std::unique_ptr<void, void (*)(void*)> data;
};

struct Tensor : Bytes {
  DType dtype;
  int64_t rows, columns;
  Tensor(DType dtype_, int64_t rows_, int64_t columns_)
      : Bytes(rows_ * columns_ * bytes_per_element(dtype_)), dtype(dtype_), rows(rows_), columns(columns_) {}
  template <class Access>
  operator Access() const {
    Access view;
    view.data = data.get();
    view.dtype = dtype;
    view.rank = 2;
    view.shape[0] = rows;
    view.shape[1] = columns;
    return view;
  }
  float* floats() const { return static_cast<float*>(data.get()); }
};

Tensor random_tensor(DType dtype, int64_t rows, int64_t columns, double std, uint64_t seed) {
  Tensor tensor(dtype, rows, columns);
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0, static_cast<float>(std));
  for (int64_t i = 0; i < rows * columns; i++) {
    float value = normal(engine);
    if (dtype == DType::bf16)
      static_cast<bf16*>(tensor.data.get())[i] = to_bf16(value);
    else
      tensor.floats()[i] = value;
  }
  return tensor;
}

struct Shape {
  int64_t tokens, width, vocabulary;
};

// One call with its workspace, kept from round to round.
template <class... Args>
struct Prepared {
  const Slot<Args...>& slot;
  Threads& threads;
  Bytes workspace;
  std::function<void()> run;
  Prepared(Threads& threads_, const Slot<Args...>& slot_, std::type_identity_t<Args>... args)
      : slot(slot_),
        threads(threads_),
        workspace(slot_.workspace ? slot_.workspace(Machine{threads_.parallel.threads}, args...) : 0),
        run([this, args...] {
          Call call;
          call.parallel = &threads.parallel;
          call.workspace = workspace.data.get();
          call.workspace_bytes = workspace.size;
          slot.run(call, args...);
        }) {}
};

struct Problem {
  Tensor hidden, weight, targets, scale, loss, dhidden, dweight;
  Problem(const Shape& s, DType dtype)
      : hidden(random_tensor(dtype, s.tokens, s.width, 1, 1)),
        weight(random_tensor(dtype, s.vocabulary, s.width, 1 / std::sqrt(s.width), 2)),
        targets(DType::i32, 1, s.tokens),
        scale(DType::f32, 1, 1),
        loss(DType::f32, 1, s.tokens),
        dhidden(dtype, s.tokens, s.width),
        dweight(DType::f32, s.vocabulary, s.width) {
    std::mt19937_64 engine(3);
    for (int64_t t = 0; t < s.tokens; t++)
      static_cast<int32_t*>(targets.data.get())[t] = static_cast<int32_t>(engine() % s.vocabulary);
    scale.floats()[0] = 1.0f / static_cast<float>(s.tokens);
  }
};

// softmax − one-hot times the scale over the whole logits, and each row's loss: memory-bound beside the products.
__attribute__((optimize("fast-math"))) void softmax_rows(Threads& threads, const Tensor& logits, Problem& p,
                                                         const Tensor& dlogits) {
  Call call;
  call.parallel = &threads.parallel;
  int64_t vocabulary = logits.columns;
  parallel_for(call, logits.rows, [&](int64_t t, int) {
    float* z = logits.floats() + t * vocabulary;
    float largest = z[0], sum = 0;
    for (int64_t v = 0; v < vocabulary; v++) largest = std::max(largest, z[v]);
    int32_t y = static_cast<int32_t*>(p.targets.data.get())[t];
    float target = z[y];
    for (int64_t v = 0; v < vocabulary; v++) sum += z[v] = std::exp(z[v] - largest);
    p.loss.floats()[t] = largest + std::log(sum) - target;
    float factor = p.scale.floats()[0] / sum;
    for (int64_t v = 0; v < vocabulary; v++) z[v] *= factor;
    z[y] -= p.scale.floats()[0];
    if (dlogits.dtype == DType::bf16)
      for (int64_t v = 0; v < vocabulary; v++)
        static_cast<bf16*>(dlogits.data.get())[t * vocabulary + v] = to_bf16(z[v]);
  });
}

struct Fused {
  Problem problem;
  Prepared<In, In, In, In, In, int64_t, double, double, double, double, In, In, Out, Out, InOut, InOut, InOut, bool,
           bool>
      train;
  Fused(Threads& threads, const Kernels& kernels, const Shape& s, DType dtype)
      : problem(s, dtype),
        train(threads, kernels.linear_cross_entropy_train, problem.hidden, problem.weight, {}, problem.targets, {}, 0,
              0.0, 0.0, 1.0, 0.0, problem.scale, {}, problem.loss, {}, problem.dhidden, problem.dweight, {}, false,
              false) {}
};

struct Unfused {
  Threads& threads;
  Problem problem;
  Tensor logits, dlogits;
  Prepared<In, In, In, In, Out> product;
  Prepared<In, In, InOut, bool> input;
  Prepared<In, In, InOut, InOut, bool> weight;
  Unfused(Threads& threads_, const Kernels& kernels, const Shape& s, DType dtype)
      : threads(threads_),
        problem(s, dtype),
        logits(DType::f32, s.tokens, s.vocabulary),
        dlogits(dtype, dtype == DType::f32 ? 0 : s.tokens, s.vocabulary),
        product(threads, kernels.linear, problem.hidden, problem.weight, {}, {}, logits),
        input(threads, kernels.linear_backward_input, gradient(), problem.weight, problem.dhidden, false),
        weight(threads, kernels.linear_backward_weight, gradient(), problem.hidden, problem.dweight, {}, false) {}
  const Tensor& gradient() const { return logits.dtype == problem.hidden.dtype ? logits : dlogits; }
  void run() {
    product.run();
    softmax_rows(threads, logits, problem, gradient());
    input.run();
    weight.run();
  }
};

double norm_of_difference(const Tensor& a, const Tensor& b) {
  double error = 0, norm = 0;
  for (int64_t i = 0; i < a.rows * a.columns; i++) {
    error += std::pow(a.floats()[i] - b.floats()[i], 2);
    norm += std::pow(b.floats()[i], 2);
  }
  return std::sqrt(error / norm);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(Threads& threads, const Backend& backend, const Shape& s, DType dtype) {
  Fused fused(threads, *backend.kernels, s, dtype);
  Unfused unfused(threads, *backend.kernels, s, dtype);
  fused.train.run();
  unfused.run();
  double tolerance = dtype == DType::f32 ? 1e-5 : 5e-3;
  double loss_error = norm_of_difference(fused.problem.loss, unfused.problem.loss);
  double weight_error = norm_of_difference(fused.problem.dweight, unfused.problem.dweight);
  if (!(loss_error < 1e-5 && weight_error < tolerance)) {
    std::printf("%s %s: WRONG, loss %.2g dweight %.2g\n", backend.level, dtype_name(dtype), loss_error, weight_error);
    std::exit(1);
  }
  std::vector<double> fused_times, unfused_times;
  double begin = milliseconds();
  for (int round = 0; round < 31 && (round < 3 || milliseconds() - begin < 3000); round++) {
    double start = milliseconds();
    fused.train.run();
    double middle = milliseconds();
    unfused.run();
    fused_times.push_back(middle - start);
    unfused_times.push_back(milliseconds() - middle);
  }
  double flop = 6.0 * static_cast<double>(s.tokens * s.width * s.vocabulary), time = median(fused_times);
  std::printf(
      "%-10s %-4s %5ld x %4ld x %6ld  fused %8.2f ms  full logits %8.2f ms  %5.2fx  %7.0f GFLOP/s  %5.1f MB / %6.1f "
      "MB\n",
      backend.level, dtype_name(dtype), s.tokens, s.width, s.vocabulary, time, median(unfused_times),
      median(unfused_times) / time, flop / time * 1e-6, static_cast<double>(fused.train.workspace.size) / 1e6,
      static_cast<double>(unfused.logits.size + unfused.dlogits.size) / 1e6);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> levels(arguments + 1, arguments + count);
  if (levels.empty()) levels.push_back(cpu::default_level());
  Threads threads;
  std::printf("%s, %d threads\n", cpu::processor().model.c_str(), threads.parallel.threads);
  for (const std::string& level : levels) {
    const Backend* backend = cpu::backend(level);
    if (!backend) return std::printf("no level %s here\n", level.c_str()), 1;
    for (DType dtype : {DType::bf16, DType::f32})
      for (Shape shape : {Shape{4096, 256, 256}, Shape{256, 512, 32000}, Shape{2048, 512, 32000}})
        compare(threads, *backend, shape, dtype);
  }
}
