// How long do attention and its gradient take at each SIMD level, in f32 and bf16, and how far from each other?
// Each level's result is checked against the plain loops' before it is timed; levels are interleaved, medians reported.
//
// usage: bench_attention [threads] [B T H G D]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/backend.h"

using namespace foretoken;

namespace {

// Workers that spin between calls: what a busy pool costs, without its wake-up.
class SpinningPool : public Parallel {
 public:
  explicit SpinningPool(int count) {
    threads = count;
    run = [](const Parallel& self, int64_t tasks, void (*body)(void*, int64_t, int), void* context) {
      static_cast<SpinningPool&>(const_cast<Parallel&>(self)).fork(tasks, body, context);
    };
    for (int worker = 1; worker < count; worker++) workers_.emplace_back([this, worker] { spin(worker); });
  }
  ~SpinningPool() {
    stop_ = true;
    round_++;
    for (std::thread& worker : workers_) worker.join();
  }

 private:
  void fork(int64_t tasks, void (*body)(void*, int64_t, int), void* context) {
    tasks_ = tasks, body_ = body, context_ = context;
    next_ = 0, done_ = 0;
    round_++;
    work(0);
    while (done_ != static_cast<int>(workers_.size()));
  }
  void work(int worker) {
    for (int64_t task; (task = next_++) < tasks_;) body_(context_, task, worker);
  }
  void spin(int worker) {
    for (int seen = 0; !stop_;) {
      if (round_ == seen) continue;
      seen = round_;
      if (stop_) return;
      work(worker);
      done_++;
    }
  }

  std::vector<std::thread> workers_;
  int64_t tasks_ = 0;
  void (*body_)(void*, int64_t, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<int64_t> next_{0};
  std::atomic<int> round_{0}, done_{0};
  std::atomic<bool> stop_{false};
};

struct Tensor {
  View view;
  std::vector<char> bytes;

  Tensor(DType dtype, std::vector<int64_t> shape, uint64_t seed) {
    view.dtype = dtype;
    for (int64_t dimension : shape) view.shape[view.rank++] = dimension;
    bytes.resize(element_count(view) * bytes_per_element(dtype) + 64);
    view.data = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    std::mt19937_64 engine(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < element_count(view); i++) {
      float x = normal(engine);
      if (dtype == DType::bf16)
        static_cast<bf16*>(view.data)[i].bits = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, x) >> 16);
      else
        static_cast<float*>(view.data)[i] = x;
    }
  }
  double operator[](int64_t i) const {
    if (view.dtype == DType::f32) return static_cast<float*>(view.data)[i];
    return __builtin_bit_cast(float, static_cast<uint32_t>(static_cast<bf16*>(view.data)[i].bits) << 16);
  }
  operator In() const { return {view}; }
  operator Out() const { return {view}; }
  operator InOut() const { return {view}; }
};

template <class... Args>
double milliseconds(const Parallel& parallel, const Slot<Args...>& slot, const std::type_identity_t<Args>&... args) {
  size_t bytes = slot.workspace ? slot.workspace(Machine{parallel.threads}, args...) : 0;
  static std::vector<char> workspace;
  if (workspace.size() < bytes + 64) workspace.resize(bytes + 64);
  Call call;
  call.parallel = &parallel;
  call.workspace = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  call.workspace_bytes = bytes;
  auto start = std::chrono::steady_clock::now();
  slot.run(call, args...);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct Row {
  std::string level;
  DType dtype;
  std::vector<double> forward, backward;
};

}  // namespace

int main(int count, char** arguments) {
  auto argument = [&](int i, int64_t otherwise) { return i < count ? std::atoll(arguments[i]) : otherwise; };
  SpinningPool pool(static_cast<int>(argument(1, 2)));
  int64_t B = argument(2, 8), T = argument(3, 256), H = argument(4, 4), G = argument(5, 4), D = argument(6, 64);
  double scale = 1 / std::sqrt(static_cast<double>(D)), pairs = 0.5 * B * H * T * (T + 1);
  std::vector<Row> rows;
  for (DType dtype : {DType::f32, DType::bf16})
    for (const std::string& level : cpu::usable_levels())
      if (level != "generic") rows.push_back({level, dtype, {}, {}});
  const Kernels& plain = *cpu::backend("generic")->kernels;
  for (DType dtype : {DType::f32, DType::bf16}) {
    Tensor q(dtype, {B, T, H, D}, 1), k(dtype, {B, T, G, D}, 2), v(dtype, {B, T, G, D}, 3),
        dout(dtype, {B, T, H, D}, 4);
    Tensor out(dtype, {B, T, H, D}, 5), lse(DType::f32, {B, H, T}, 6);
    Tensor dq(dtype, {B, T, H, D}, 7), dk(dtype, {B, T, G, D}, 8), dv(dtype, {B, T, G, D}, 9);
    Tensor expected(dtype, {B, T, H, D}, 10);
    In none;
    milliseconds(pool, plain.attention, q, k, v, none, expected, lse, scale);
    for (int repeat = 0; repeat < 21; repeat++) {
      for (Row& row : rows) {
        if (row.dtype != dtype) continue;
        const Kernels& kernels = *cpu::backend(row.level)->kernels;
        row.forward.push_back(milliseconds(pool, kernels.attention, q, k, v, none, out, lse, scale));
        row.backward.push_back(
            milliseconds(pool, kernels.attention_backward, q, k, v, none, out, lse, dout, dq, dk, dv, scale));
        for (int64_t i = 0; repeat == 0 && i < element_count(out.view); i++) {
          if (std::abs(out[i] - expected[i]) < (dtype == DType::f32 ? 1e-4 : 0.05)) continue;
          std::printf("%s: wrong result %g, expected %g\n", row.level.c_str(), out[i], expected[i]);
          return 1;
        }
      }
    }
  }
  std::printf("attention, B=%ld T=%ld H=%ld G=%ld D=%ld, %d threads, %s\n", long(B), long(T), long(H), long(G), long(D),
              pool.threads, cpu::processor().model.c_str());
  std::printf("%-12s %-6s %11s %8s %11s %8s\n", "level", "dtype", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s");
  for (const Row& row : rows) {
    double forward = median(row.forward), backward = median(row.backward);
    std::printf("%-12s %-6s %11.3f %8.0f %11.3f %8.0f\n", row.level.c_str(), dtype_name(row.dtype), forward,
                4 * pairs * D / forward / 1e6, backward, 10 * pairs * D / backward / 1e6);
  }
}
