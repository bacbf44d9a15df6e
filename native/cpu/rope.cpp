// Rotary embedding: sines and cosines of a position are computed once, in double, and turn all its heads.
#include "attention.h"

namespace FORETOKEN_LEVEL_NAMESPACE {
namespace {

// Sine and cosine of position·frequency[i], to 10⁻¹¹ before rounding to float: reduction to [−π/4, π/4] (Cody and
// Waite), then the power series. Nothing branches or is selected, so that the compiler makes vectors of the loop.
void sines_and_cosines(double position, const double* __restrict frequency, int64_t count, float* __restrict sines,
                       float* __restrict cosines) {
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

template <class S>
void rotate_halves(S* low, int64_t half, const float* sines, const float* cosines) {
  S* high = low + half;
  int64_t i = 0;
  for (; i + kWidth <= half; i += kWidth) {
    Vec sine = load(sines + i), cosine = load(cosines + i), x = load(low + i), y = load(high + i);
    store(low + i, sub(mul(x, cosine), mul(y, sine)));
    store(high + i, add(mul(y, cosine), mul(x, sine)));
  }
  if (int64_t n = half - i; n > 0) {
    Vec sine = load_n(sines + i, n), cosine = load_n(cosines + i, n), x = load_n(low + i, n), y = load_n(high + i, n);
    store_n(low + i, sub(mul(x, cosine), mul(y, sine)), n);
    store_n(high + i, add(mul(y, cosine), mul(x, sine)), n);
  }
}

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

template <class S>
void rotate(const Call& call, const InOut& x, const In& positions, const RopeShape& n, double theta, bool inverse) {
  constexpr int64_t kPositions = 16;  // of a task
  int64_t half = n.D / 2;
  Carver carve(call.workspace);
  const double* frequency = frequencies(theta, n.D, carve.take<double>(half));
  float* turns = carve.take<float>(0);
  parallel_for(call, (n.positions + kPositions - 1) / kPositions, [&](int64_t task, int worker) {
    float *sines = turns + worker * n.D, *cosines = sines + half;
    int64_t last = (task + 1) * kPositions < n.positions ? (task + 1) * kPositions : n.positions;
    for (int64_t p = task * kPositions; p < last; p++) {
      double position = static_cast<double>(given(positions) ? static_cast<const int32_t*>(positions.data)[p] : p);
      sines_and_cosines(position, frequency, half, sines, cosines);
      if (inverse)
        for (int64_t i = 0; i < half; i++) sines[i] = -sines[i];
      for (int64_t r = p; r < n.R; r += n.positions)
        for (int64_t h = 0; h < n.H; h++)
          rotate_halves(static_cast<S*>(x.data) + (r * n.H + h) * n.D, half, sines, cosines);
    }
  });
}

}  // namespace

size_t rope_workspace(const Machine& machine, InOut x, In, int64_t, double, bool) {
  Carver carve(nullptr);
  carve.take<double>(last_dimension(x) / 2);
  carve.take<float>(machine.threads * last_dimension(x));
  return carve.used;
}

void rope(const Call& call, InOut x, In positions, int64_t period, double theta, bool inverse) {
  RopeShape n(x, positions, period);
  if (x.dtype == DType::bf16)
    rotate<bf16>(call, x, positions, n, theta, inverse);
  else
    rotate<float>(call, x, positions, n, theta, inverse);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
