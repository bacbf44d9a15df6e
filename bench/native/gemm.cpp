// How near do the products come to what this machine's multiply instructions, and its memory, can do?
// Each line: GFLOP/s of a slot (packing included) beside the same threads' peak, measured in the same round by loops
// that touch registers only. For single rows: bytes of weight per second beside plain reading.
//
//   gemm [level …]     all usable levels unless named; FORETOKEN_THREADS threads
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "machine.h"

using namespace foretoken;

namespace {

// The multiply instruction a level uses for a dtype: nullptr where there is no such loop.
double (*peak_loop(const std::string& level, DType dtype))(int64_t) {
  std::string instruction = level;
  if (dtype != DType::bf16 && (level == "amx" || level == "avx512bf16")) instruction = "avx512";
  for (const Loop& loop : kLoops)
    if (instruction == loop.level) return loop.run;
  return nullptr;
}

// ---- the products ---------------------------------------------------------------------------------------------------

struct Bytes {
  explicit Bytes(int64_t count) : size(count), data(std::aligned_alloc(4096, (count + 4096) / 4096 * 4096), std::free) {
    std::memset(data.get(), 0, count);
  }
  int64_t size;
  std::unique_ptr<void, void (*)(void*)> data;
};

Bytes random_numbers(DType dtype, int64_t count) {
  Bytes bytes(count * bytes_per_element(dtype));
  for (int64_t i = 0; i < count; i++) {
    float value = static_cast<float>(std::rand() % 2001 - 1000) / 1000;
    if (dtype == DType::f32)
      static_cast<float*>(bytes.data.get())[i] = value;
    else
      static_cast<uint16_t*>(bytes.data.get())[i] = __builtin_bit_cast(uint32_t, value) >> 16;
  }
  return bytes;
}

template <class Access>
Access view(const Bytes& bytes, DType dtype, int64_t rows, int64_t columns, Layout layout = Layout::row_major) {
  Access access;
  access.data = bytes.data.get();
  access.dtype = dtype;
  access.layout = layout;
  access.rank = 2;
  access.shape[0] = rows;
  access.shape[1] = columns;
  return access;
}

// A slot with its arguments, ready to be timed.
template <class... Args>
std::function<void()> bound(Threads& threads, const Slot<Args...>& slot, Args... args) {
  size_t size = slot.workspace ? slot.workspace(Machine{threads.parallel.threads}, args...) : 0;
  auto workspace = std::make_shared<Bytes>(static_cast<int64_t>(size) + 64);
  Call call = threads.call();
  call.workspace = workspace->data.get();
  call.workspace_bytes = size;
  return [=] {
    (void)workspace;
    slot.run(call, args...);
  };
}

struct Timed {
  double median, best;
};

Timed summary(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.back()};
}

constexpr int kRounds = 15;

void report(Threads& threads, const Backend& backend, DType dtype, const char* what, int64_t m, int64_t n, int64_t k,
            const std::function<void()>& run) {
  double flop = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  auto loop = peak_loop(backend.level, dtype);
  std::vector<double> rates, peaks;
  run();
  for (int round = 0; round < kRounds; round++) {
    double start = seconds();
    run();
    rates.push_back(flop / (seconds() - start) * 1e-9);
    if (loop) peaks.push_back(multiply_gflops(threads, loop));
  }
  Timed rate = summary(rates);
  std::printf("%-10s %-4s %-16s %5ld %6ld %5ld %9.1f %9.1f", backend.level, dtype_name(dtype), what, m, n, k,
              rate.median, rate.best);
  if (loop) {
    Timed peak = summary(peaks);
    std::printf(" %9.1f %5.1f %% %5.1f %%", peak.median, 100 * rate.median / peak.median, 100 * rate.best / peak.best);
  }
  std::printf("\n");
}

// The three products of a layer.
void bench_layer(Threads& threads, const Backend& backend, DType dtype, int64_t m, int64_t n, int64_t k) {
  Bytes x = random_numbers(dtype, m * k), weight = random_numbers(dtype, n * k), dy = random_numbers(dtype, m * n);
  Bytes y = random_numbers(dtype, m * n), dx = random_numbers(dtype, m * k),
        dweight = random_numbers(DType::f32, n * k);
  const Kernels& kernels = *backend.kernels;
  In x_in = view<In>(x, dtype, m, k), weight_in = view<In>(weight, dtype, n, k), dy_in = view<In>(dy, dtype, m, n);
  report(threads, backend, dtype, "linear", m, n, k,
         bound(threads, kernels.linear, x_in, weight_in, In{}, In{}, view<Out>(y, dtype, m, n)));
  report(threads, backend, dtype, "backward_input", m, n, k,
         bound(threads, kernels.linear_backward_input, dy_in, weight_in, view<InOut>(dx, dtype, m, k), false));
  report(threads, backend, dtype, "backward_weight", m, n, k,
         bound(threads, kernels.linear_backward_weight, dy_in, x_in, view<InOut>(dweight, DType::f32, n, k), InOut{},
               true));
}

// Few rows times a large packed weight.
void bench_rows(Threads& threads, const Backend& backend, DType dtype, int64_t m, int64_t n, int64_t k) {
  Bytes x = random_numbers(dtype, m * k), weight = random_numbers(dtype, n * k), y = random_numbers(DType::f32, m * n);
  Bytes packed(backend.packed_weight_bytes(dtype, n, k));
  In weight_in = view<In>(weight, dtype, n, k);
  bound(threads, backend.kernels->pack_weight, weight_in, view<Out>(packed, dtype, n, k))();
  Words memory(static_cast<size_t>(packed.size));
  In packed_in = view<In>(packed, dtype, n, k, Layout::packed);
  for (bool ahead : {true, false}) {
    auto run = bound(threads, backend.kernels->linear, view<In>(x, dtype, m, k), ahead ? packed_in : weight_in, In{},
                     In{}, view<Out>(y, DType::f32, m, n));
    std::vector<double> rates, reads;
    for (int round = 0; round < kRounds; round++) {
      double start = seconds();
      run();
      rates.push_back(static_cast<double>(weight.size) / (seconds() - start) * 1e-9);
      reads.push_back(read_gigabytes(threads, memory));
    }
    Timed rate = summary(rates), read = summary(reads);
    std::printf("%-10s %-4s %-16s %5ld %6ld %5ld  %8.1f GB/s of %.1f read: %.0f %%\n", backend.level, dtype_name(dtype),
                ahead ? "linear, packed" : "linear, rows", m, n, k, rate.median, read.median,
                100 * rate.median / read.median);
  }
}

}  // namespace

int main(int count, char** names) {
  Threads threads;
  std::printf("%s, %d threads\n", cpu::processor().model.c_str(), threads.parallel.threads);
  std::printf("%-10s %-4s %-16s %5s %6s %5s %9s %9s %9s %7s %7s\n", "level", "type", "slot", "M", "N", "K", "GFLOP/s",
              "best", "peak", "median", "best");
  std::vector<std::string> levels(names + 1, names + count);
  if (levels.empty()) levels = cpu::usable_levels();
  for (const std::string& level : levels) {
    const Backend* backend = cpu::backend(level);
    if (!backend) {
      std::printf("%s: not usable here\n", level.c_str());
      return 1;
    }
    for (DType dtype : {DType::f32, DType::bf16}) {
      if (level == "generic") {
        bench_layer(threads, *backend, dtype, 256, 256, 256);
        continue;
      }
      bench_layer(threads, *backend, dtype, 2048, 256, 256);
      bench_layer(threads, *backend, dtype, 2048, 704, 256);
      bench_layer(threads, *backend, dtype, 2048, 256, 704);
      bench_layer(threads, *backend, dtype, 2048, 768, 768);
      bench_rows(threads, *backend, dtype, 1, 32000, 256);
      bench_rows(threads, *backend, dtype, 8, 32000, 256);
    }
  }
}
