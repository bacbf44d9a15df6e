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

template <class T>
__device__ void rotate(const T* low, T* out, int64_t half, float sine, float cosine) {
  const float a = value_of(low[0]), b = value_of(low[half]);
  store_value(out, a * cosine - b * sine);
  store_value(out + half, b * cosine + a * sine);
}

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
    rotate(low, low, n.D / 2, sine, cosine);
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

// ---- rope_append ---------------------------------------------------------------------------------------------------

struct AppendShape {
  int64_t R, H, G, D, slots, capacity;
};

// One thread a row, pair and group of heads, of which a row has H + 2G.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rope_append_kernel(const T* qkv /*(R,(H+2G)·D)*/, const int32_t* sequence /*(R)*/, const int32_t* position /*(R)*/,
                       const int32_t* place /*(R)*/, const __grid_constant__ Frequencies frequencies, AppendShape n,
                       T* q /*(R,H,D)*/, T* key_cache, T* value_cache /*(slots,G,capacity,D)*/) {
  const int64_t r = thread_index() / frequencies.count, pair = thread_index() % frequencies.count;
  if (r >= n.R) return;
  const Turn turn = turn_of(static_cast<double>(position[r]) * frequencies.of_pair[pair]);
  const int64_t slot = sequence[r], to = place[r], half = n.D / 2, at = frequencies.first + pair;
  const bool stored = slot >= 0 && slot < n.slots && to >= 0 && to < n.capacity;
  const int64_t heads = n.H + 2 * n.G, first = blockIdx.y * kHeads;
  const int64_t end = first + kHeads < heads ? first + kHeads : heads;
  for (int64_t h = first; h < end; h++) {
    const T* in = qkv + (r * heads + h) * n.D + at;
    if (h < n.H) {
      rotate(in, q + (r * n.H + h) * n.D + at, half, turn.sine, turn.cosine);
    } else if (stored) {
      const int64_t out = ((slot * n.G + (h - n.H) % n.G) * n.capacity + to) * n.D + at;
      if (h < n.H + n.G) {
        rotate(in, key_cache + out, half, turn.sine, turn.cosine);
      } else {
        value_cache[out] = in[0];
        value_cache[out + half] = in[half];
      }
    }
  }
}

void rope_append(const Call& call, In qkv, In sequence, In position, In place, Out q, InOut key_cache,
                 InOut value_cache, double theta) {
  const AppendShape n{q.shape[0],        q.shape[1],         key_cache.shape[1],
                      last_dimension(q), key_cache.shape[0], key_cache.shape[2]};
  for (int64_t first = 0; first < n.D / 2; first += kPairs) {
    const Frequencies frequencies = frequencies_from(first, n.D, theta);
    dispatch({q.dtype}, [&]<class T>(Element<T>) {
      launch(call, ceil_div(n.R * frequencies.count, kThreads), ceil_div(n.H + 2 * n.G, kHeads), kThreads,
             rope_append_kernel<T>, elements<T>(qkv), elements<int32_t>(sequence), elements<int32_t>(position),
             elements<int32_t>(place), frequencies, n, elements<T>(q), elements<T>(key_cache),
             elements<T>(value_cache));
    });
  }
}

}  // namespace

void fill_rope(Kernels& table) {
  table.rope = {rope};
  table.rope_append = {rope_append};
}

}  // namespace foretoken::cuda
