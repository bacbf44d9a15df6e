// Rotary embedding (arXiv 2104.09864): (x_i, x_{i+D/2}) turned by position·theta^(−2i/D), in place.
#include <cmath>

#include "launch.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kHeads = 8;  // of one thread, which turns them all by the same angle
constexpr int kPairs = 256;    // of one launch: more than any head has in practice

// theta^(−2i/D) of the pairs first … first + count − 1.
struct Frequencies {
  double of_pair[kPairs];
  int64_t first, count;
};

struct RopeShape {
  int64_t R, H, D;
};

// ---- sine and cosine -----------------------------------------------------------------------------------------------

struct Turn {
  float sine, cosine;
};

// To 10⁻¹¹ before rounding to float: reduction to [−π/4, π/4] (Cody and Waite), then the power series. The angle is a
// double: position·frequency reaches thousands of turns.
__device__ Turn turn_of(double angle) {
  constexpr double kPerQuarterTurn = 0.63661977236758134308, kQuarterTurn = 1.57079632679489655800e+00,
                   kQuarterTurnRest = 6.12323399573676603587e-17;
  const double quarters = rint(angle * kPerQuarterTurn);
  const double x = fma(-quarters, kQuarterTurnRest, fma(-quarters, kQuarterTurn, angle)), z = x * x;
  double s = fma(z, -1.0 / 39916800, 1.0 / 362880);
  s = fma(z, s, -1.0 / 5040);
  s = fma(z, s, 1.0 / 120);
  s = fma(z, s, -1.0 / 6);
  s = fma(z * x, s, x);
  double c = fma(z, 1.0 / 479001600, -1.0 / 3628800);
  c = fma(z, c, 1.0 / 40320);
  c = fma(z, c, -1.0 / 720);
  c = fma(z, c, 1.0 / 24);
  c = fma(z, c, -0.5);
  c = fma(z, c, 1.0);
  const int64_t quarter = static_cast<int64_t>(quarters) & 3;
  const double sine = quarter & 1 ? c : s, cosine = quarter & 1 ? -s : c;
  return {static_cast<float>(quarter & 2 ? -sine : sine), static_cast<float>(quarter & 2 ? -cosine : cosine)};
}

// ---- rope ----------------------------------------------------------------------------------------------------------

// One thread a row, pair and group of heads.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(T* x /*(R,H,D)*/, const int32_t* positions /*(R) or nullptr*/, int64_t period,
                const __grid_constant__ Frequencies frequencies, RopeShape n, float direction) {
  const int64_t r = thread_index() / frequencies.count, pair = thread_index() % frequencies.count;
  if (r >= n.R) return;
  const double position = static_cast<double>(positions ? positions[r] : r % period);
  const Turn turn = turn_of(position * frequencies.of_pair[pair]);
  const float sine = direction * turn.sine, cosine = turn.cosine;
  const int64_t first = blockIdx.y * kHeads, end = first + kHeads < n.H ? first + kHeads : n.H;
  for (int64_t h = first; h < end; h++) {
    T* low = x + (r * n.H + h) * n.D + frequencies.first + pair;
    T* high = low + n.D / 2;
    const float a = value_of(*low), b = value_of(*high);
    store_value(low, a * cosine - b * sine);
    store_value(high, b * cosine + a * sine);
  }
}

Frequencies frequencies_from(int64_t first, int64_t D, double theta) {
  Frequencies frequencies;
  frequencies.first = first;
  frequencies.count = D / 2 - first < kPairs ? D / 2 - first : kPairs;
  for (int64_t i = 0; i < frequencies.count; i++)
    frequencies.of_pair[i] = std::pow(theta, -2.0 * static_cast<double>(first + i) / static_cast<double>(D));
  return frequencies;
}

void rope(const Call& call, InOut x, In positions, int64_t period, double theta, bool inverse) {
  const int64_t D = last_dimension(x), H = x.shape[x.rank - 2], R = row_count(x) / H;
  for (int64_t first = 0; first < D / 2; first += kPairs) {
    const Frequencies frequencies = frequencies_from(first, D, theta);
    dispatch({x.dtype}, [&]<class T>(Element<T>) {
      launch(call, ceil_div(R * frequencies.count, kThreads), ceil_div(H, kHeads), kThreads, rope_kernel<T>,
             elements<T>(x), elements<int32_t>(positions), period, frequencies, RopeShape{R, H, D},
             inverse ? -1.0f : 1.0f);
    });
  }
}

}  // namespace

void fill_rope(Kernels& table) { table.rope = {rope}; }

}  // namespace foretoken::cuda
