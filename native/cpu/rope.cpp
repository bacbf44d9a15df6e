// Rotary embedding: sines and cosines of a position are computed once, in double, and turn all its heads.
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// Sine and cosine of position·frequency[i], to 10⁻¹¹ before rounding to float: reduction to [−π/4, π/4] (Cody and
// Waite), then the power series. Nothing branches or is selected, so that the compiler makes vectors of the loop.
__attribute__((noinline)) void sines_and_cosines(double position, const double* __restrict frequency, int64_t count,
                                                 float* __restrict sines, float* __restrict cosines) {
  constexpr double kPerQuarterTurn = 0.63661977236758134308, kQuarterTurn = 1.57079632679489655800e+00,
                   kQuarterTurnRest = 6.12323399573676603587e-17;
  for (int64_t i = 0; i < count; i++) {
    double angle = position * frequency[i];
    double quarters = __builtin_rint(angle * kPerQuarterTurn);
    double x = __builtin_fma(-quarters, kQuarterTurn, angle);
    x = __builtin_fma(-quarters, kQuarterTurnRest, x);
    double z = x * x;
    double s = __builtin_fma(z, -1.0 / 39916800, 1.0 / 362880);
    s = __builtin_fma(z, s, -1.0 / 5040);
    s = __builtin_fma(z, s, 1.0 / 120);
    s = __builtin_fma(z, s, -1.0 / 6);
    s = __builtin_fma(z * x, s, x);
    double c = __builtin_fma(z, 1.0 / 479001600, -1.0 / 3628800);
    c = __builtin_fma(z, c, 1.0 / 40320);
    c = __builtin_fma(z, c, -1.0 / 720);
    c = __builtin_fma(z, c, 1.0 / 24);
    c = __builtin_fma(z, c, -0.5);
    c = __builtin_fma(z, c, 1.0);
    double halves = __builtin_rint(quarters * 0.5 - 0.25);  // rounded down: the compiler has no vector of floor
    double odd = quarters - 2 * halves;                     // 1: sine and cosine change places
    double sign = 1 - 2 * (halves - 2 * __builtin_rint(halves * 0.5 - 0.25));  // −1 after half a turn
    sines[i] = static_cast<float>(sign * ((1 - odd) * s + odd * c));
    cosines[i] = static_cast<float>(sign * ((1 - odd) * c - odd * s));
  }
}

// To `to`, which may be `from`.
template <class S>
void rotate_halves(const void* from, void* to, int64_t half, const float* sines, const float* cosines) {
  const S* in = static_cast<const S*>(from);
  S* out = static_cast<S*>(to);
  int64_t i = 0;
  for (; i + kWidth <= half; i += kWidth) {
    Vec sine = load(sines + i), cosine = load(cosines + i), x = load(in + i), y = load(in + half + i);
    store(out + i, sub(mul(x, cosine), mul(y, sine)));
    store(out + half + i, add(mul(y, cosine), mul(x, sine)));
  }
  if (int64_t n = half - i; n > 0) {
    Vec sine = load_n(sines + i, n), cosine = load_n(cosines + i, n);
    Vec x = load_n(in + i, n), y = load_n(in + half + i, n);
    store_n(out + i, sub(mul(x, cosine), mul(y, sine)), n);
    store_n(out + half + i, add(mul(y, cosine), mul(x, sine)), n);
  }
}

// The kernels are the same code for both dtypes but for this.
using RotateHalves = void (*)(const void*, void*, int64_t, const float*, const float*);
RotateHalves rotate_halves_of(DType dtype) { return dtype == DType::bf16 ? rotate_halves<bf16> : rotate_halves<float>; }

// theta^(−2i/D) for i < D/2. Kept from call to call: a model asks for the same ones again and again, and for few rows
// they are most of the work.
const double* frequencies(double theta, int64_t D, double* fresh) {
  constexpr int64_t kMost = 128;
  static thread_local struct {
    double theta;
    int64_t D;
    double values[kMost];
  } kept;
  double* values = D / 2 <= kMost ? kept.values : fresh;
  if (values == kept.values && kept.theta == theta && kept.D == D) return values;
  for (int64_t i = 0; i < D / 2; i++)
    values[i] = __builtin_pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
  if (values == kept.values) kept.theta = theta, kept.D = D;
  return values;
}

// Rows that share their position lie a period apart; rows with positions of their own are not looked through for twins.
struct RopeShape {
  int64_t R, H, D, positions;
  RopeShape(const InOut& x, const In& given_positions, int64_t period) : H(x.shape[x.rank - 2]), D(last_dimension(x)) {
    R = row_count(x) / H;
    positions = given(given_positions) || period > R ? R : period;
  }
};

// body(p, sines, cosines) for every p below `count`. position: int64_t(p).
template <class Position, class Body>
void for_positions(const Call& call, int64_t count, int64_t D, double theta, Position position, Body body) {
  constexpr int64_t kPositions = 16;  // of a task
  int64_t half = D / 2;
  Carver carve(call.workspace);
  const double* frequency = frequencies(theta, D, carve.take<double>(half));
  float* turns = carve.take<float>(0);
  parallel_for(call, (count + kPositions - 1) / kPositions, [&](int64_t task, int worker) {
    float *sines = turns + worker * D, *cosines = sines + half;
    int64_t last = (task + 1) * kPositions < count ? (task + 1) * kPositions : count;
    for (int64_t p = task * kPositions; p < last; p++) {
      sines_and_cosines(static_cast<double>(position(p)), frequency, half, sines, cosines);
      body(p, sines, cosines);
    }
  });
}

size_t turns_workspace(const Machine& machine, int64_t D) {
  Carver carve(nullptr);
  carve.take<double>(D / 2);
  carve.take<float>(machine.threads * D);
  return carve.used;
}

const int32_t* integers(const View& view) { return static_cast<const int32_t*>(view.data); }

}  // namespace

size_t rope_workspace(const Machine& machine, InOut x, In, int64_t, double, bool) {
  return turns_workspace(machine, last_dimension(x));
}

void rope(const Call& call, InOut x, In positions, int64_t period, double theta, bool inverse) {
  const RopeShape n(x, positions, period);
  const int64_t half = n.D / 2;
  const RotateHalves rotate = rotate_halves_of(x.dtype);
  const auto position = [&](int64_t p) { return given(positions) ? int64_t{integers(positions)[p]} : p; };
  for_positions(call, n.positions, n.D, theta, position, [&](int64_t p, float* sines, const float* cosines) {
    if (inverse)
      for (int64_t i = 0; i < half; i++) sines[i] = -sines[i];
    for (int64_t r = p; r < n.R; r += n.positions)
      for (int64_t h = 0; h < n.H; h++) {
        void* head = at(x, (r * n.H + h) * n.D);
        rotate(head, head, half, sines, cosines);
      }
  });
}

size_t rope_append_workspace(const Machine& machine, In, In, In, In, Out q, InOut, InOut, double) {
  return turns_workspace(machine, last_dimension(q));
}

void rope_append(const Call& call, In qkv, In sequence, In position, In place, Out q, InOut key_cache,
                 InOut value_cache, double theta) {
  const int64_t R = q.shape[0], H = q.shape[1], D = q.shape[2], half = D / 2;
  const int64_t slots = key_cache.shape[0], G = key_cache.shape[1], capacity = key_cache.shape[2];
  const RotateHalves rotate = rotate_halves_of(q.dtype);
  const auto position_of = [&](int64_t r) { return int64_t{integers(position)[r]}; };
  for_positions(call, R, D, theta, position_of, [&](int64_t r, const float* sines, const float* cosines) {
    const int64_t first = r * (H + 2 * G) * D;  // the row's queries; its keys and values follow
    for (int64_t h = 0; h < H; h++) rotate(at(qkv, first + h * D), at(q, (r * H + h) * D), half, sines, cosines);
    const int64_t slot = integers(sequence)[r], to = integers(place)[r];
    if (slot < 0 || slot >= slots || to < 0 || to >= capacity) return;
    for (int64_t g = 0; g < G; g++) {
      const int64_t cached = ((slot * G + g) * capacity + to) * D;
      rotate(at(qkv, first + (H + g) * D), at(key_cache, cached), half, sines, cosines);
      __builtin_memcpy(at(value_cache, cached), at(qkv, first + (H + G + g) * D), D * bytes_per_element(q.dtype));
    }
  });
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
