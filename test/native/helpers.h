// Shared by the C++ tests: guarded buffers, random numbers, the loop over SIMD levels, and calls whose workspace is
// exactly as large as the query says.
//
//   auto x = Buffer<bf16>::of(random_normal(6, 1.0, seed));
//   Buffer<float> y(6);                                            // poisoned: NaN in every element
//   for_each_level([&](const Backend& backend) {
//     run(backend.kernels->cast, view_of(x, {2, 3}), view_of(y, {2, 3}));
//     CHECK(y.guards_intact());
//   });
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/backend.h"
#include "doctest.h"
#include "gpu.h"

namespace foretoken::test {

// ---- elements -------------------------------------------------------------------------------------------------------

template <class T>
struct DTypeOf;
#define X(name, type, bytes)                    \
  template <>                                   \
  struct DTypeOf<type> {                        \
    static constexpr DType value = DType::name; \
  };
FORETOKEN_DTYPES(X)
#undef X

inline double to_double(bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }
template <class T>
double to_double(T x) {
  return static_cast<double>(x);
}

// From double to T, rounding once, to nearest even.
template <class T>
T from_double(double x) {
  return static_cast<T>(x);
}
template <>
inline bf16 from_double<bf16>(double x) {
  if (std::isnan(x)) return {0x7fc0};
  float truncated = static_cast<float>(x);
  uint32_t bits = __builtin_bit_cast(uint32_t, truncated);
  // A double that the float rounding pushed onto a tie is put back on its own side.
  if ((bits & 0xffff) == 0x8000 && static_cast<double>(truncated) != x)
    bits += (std::abs(x) > std::abs(static_cast<double>(truncated))) ? 1 : -1;
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// ---- buffers --------------------------------------------------------------------------------------------------------

// `count` elements between two guard zones. All bytes start as 0xff: NaN in every float type, −1 as an integer.
// shift moves the start off its 64-byte alignment by that many elements.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count, int64_t shift = 0) : count_(count), shift_(shift) {
    bytes_ = static_cast<unsigned char*>(std::aligned_alloc(64, allocated()));
    poison();
    gpu::announce(data(), count_ * sizeof(T));
  }
  Buffer(const Buffer& other) : Buffer(other.count_, other.shift_) { std::memcpy(bytes_, other.bytes_, allocated()); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer other) {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (bytes_) gpu::forget(data());
    std::free(bytes_);
  }

  static Buffer of(const std::vector<double>& values, int64_t shift = 0) {
    Buffer buffer(static_cast<int64_t>(values.size()), shift);
    for (int64_t i = 0; i < buffer.size(); i++) buffer[i] = from_double<T>(values[i]);
    return buffer;
  }
  static Buffer filled(int64_t count, double value) { return of(std::vector<double>(count, value)); }

  int64_t size() const { return count_; }
  T* data() const { return reinterpret_cast<T*>(bytes_ + kGuard) + shift_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }

  // The elements as doubles: exact, so that the f64 oracle sees what the kernel saw.
  std::vector<double> values() const {
    std::vector<double> result(count_);
    for (int64_t i = 0; i < count_; i++) result[i] = to_double(data()[i]);
    return result;
  }
  bool same_bits(const Buffer& other) const {
    return count_ == other.count_ && std::memcmp(data(), other.data(), count_ * sizeof(T)) == 0;
  }
  void poison() { std::memset(bytes_, kPoison, allocated()); }
  bool guards_intact() const {
    const unsigned char* first = reinterpret_cast<const unsigned char*>(data());
    const unsigned char* last = first + count_ * sizeof(T);
    for (const unsigned char* p = bytes_; p < first; p++)
      if (*p != kPoison) return false;
    for (const unsigned char* p = last; p < bytes_ + allocated(); p++)
      if (*p != kPoison) return false;
    return true;
  }

 private:
  static constexpr int64_t kGuard = 1024;
  static constexpr unsigned char kPoison = 0xff;
  size_t allocated() const { return (2 * kGuard + (count_ + shift_) * sizeof(T) + 63) / 64 * 64; }
  void swap(Buffer& other) {
    std::swap(bytes_, other.bytes_);
    std::swap(count_, other.count_);
    std::swap(shift_, other.shift_);
  }

  unsigned char* bytes_ = nullptr;
  int64_t count_ = 0, shift_ = 0;
};

// ---- views ----------------------------------------------------------------------------------------------------------

// Converts to whichever of In, Out and InOut a slot asks for.
struct AnyView : View {
  operator In() const { return {*this}; }
  operator Out() const { return {*this}; }
  operator InOut() const { return {*this}; }
};

template <class T>
AnyView view_of(const Buffer<T>& buffer, std::initializer_list<int64_t> shape, Layout layout = Layout::row_major) {
  AnyView view;
  view.data = buffer.data();
  view.dtype = DTypeOf<T>::value;
  view.layout = layout;
  for (int64_t dimension : shape) view.shape[view.rank++] = dimension;
  if (layout == Layout::row_major) REQUIRE(element_count(view) <= buffer.size());
  return view;
}

// An optional argument left out.
inline const AnyView absent;

// ---- random values --------------------------------------------------------------------------------------------------

inline std::vector<double> random_normal(int64_t count, double std, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, std);
  std::vector<double> values(count);
  for (double& value : values) value = normal(engine);
  return values;
}

// Uniform integers in [low, high).
inline std::vector<double> random_integers(int64_t count, int64_t low, int64_t high, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<int64_t> uniform(low, high - 1);
  std::vector<double> values(count);
  for (double& value : values) value = static_cast<double>(uniform(engine));
  return values;
}

// ---- levels and calls -----------------------------------------------------------------------------------------------

// body(backend) for every SIMD level this machine can run; FORETOKEN_TEST_LEVEL names one alone. In the programs that
// test the CUDA backend: for that one.
template <class Body>
void for_each_level(Body body) {
  if (const Backend* gpu = gpu::backend()) {
    Backend backend = *gpu;
    backend.oracle = cpu::backend("generic")->oracle;  // of f64, which no GPU kernel takes
    INFO("device " << std::string(backend.level));
    return body(static_cast<const Backend&>(backend));
  }
  const char* only = std::getenv("FORETOKEN_TEST_LEVEL");
  for (const std::string& level : cpu::usable_levels()) {
    if (only && level != only) continue;
    INFO("level " << level);
    body(*cpu::backend(level));
  }
}

// The f64 table of plain loops.
inline const Kernels& oracle() { return *cpu::backend("generic")->oracle; }

// One thread that behaves like several: tasks come in an order drawn from `seed`, and from any worker. What a kernel
// computes must not depend on either.
struct ShuffledParallel : Parallel {
  uint64_t seed;
  explicit ShuffledParallel(int threads_, uint64_t seed_ = 1) : seed(seed_) {
    threads = threads_;
    run = [](const Parallel& self, int64_t tasks, void (*body)(void*, int64_t, int), void* context) {
      std::mt19937_64 engine(static_cast<const ShuffledParallel&>(self).seed);
      std::vector<int64_t> order(tasks);
      for (int64_t i = 0; i < tasks; i++) order[i] = i;
      for (int64_t i = tasks - 1; i > 0; i--) std::swap(order[i], order[engine() % (i + 1)]);
      for (int64_t task : order) body(context, task, static_cast<int>(engine() % self.threads));
    };
  }
};

// Runs a slot with a poisoned, guarded workspace of exactly the size its query asks for.
template <class... Args>
void run_on(const Parallel& parallel, const Slot<Args...>& slot, const std::type_identity_t<Args>&... args) {
  bool filled = slot.run != nullptr;
  REQUIRE_MESSAGE(filled, "the slot is empty");
  if (gpu::owns(&slot)) return gpu::run(slot, args...);
  size_t bytes = slot.workspace ? slot.workspace(Machine{.threads = parallel.threads}, args...) : 0;
  Buffer<uint8_t> workspace(static_cast<int64_t>(bytes));
  Call call;
  call.parallel = &parallel;
  call.workspace = bytes ? workspace.data() : nullptr;
  call.workspace_bytes = bytes;
  slot.run(call, args...);
  CHECK_MESSAGE(workspace.guards_intact(), "wrote outside the workspace of " << bytes << " bytes");
}

// The same on one thread.
template <class... Args>
void run(const Slot<Args...>& slot, const std::type_identity_t<Args>&... args) {
  run_on(Parallel{}, slot, args...);
}

// The largest |actual − expected|; NaN when either has one where the other does not.
inline double max_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    double error = std::abs(actual[i] - expected[i]);
    if (std::isnan(error)) return error;
    if (error > worst) worst = error;
  }
  return worst;
}

}  // namespace foretoken::test
