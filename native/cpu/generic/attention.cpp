// Rotary embedding, attention and its key/value cache as plain loops: the specification.
#include <cmath>
#include <cstring>
#include <limits>

#include "dispatch.h"

namespace foretoken::generic {
namespace {

// ---- rope: turn (x_i, x_{i+D/2}) by position·theta^(−2i/D) ---------------------------------------------------------

// The angle is formed in double: position·frequency reaches thousands of turns.
template <class T>
void rotate_halves(const T* x, T* out, int64_t D, double position, double theta, double direction) {
  using A = Arithmetic<T>;
  int64_t half = D / 2;
  for (int64_t i = 0; i < half; i++) {
    double angle = position * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
    A cosine = static_cast<A>(std::cos(angle)), sine = static_cast<A>(direction * std::sin(angle));
    A low = value_of(x[i]), high = value_of(x[i + half]);
    store_scalar(out + i, low * cosine - high * sine);
    store_scalar(out + i + half, high * cosine + low * sine);
  }
}

void rope(const Call& call, InOut x, In positions, int64_t period, double theta, bool inverse) {
  dispatch(x.dtype, [&]<class T>(Element<T>) {
    int64_t D = last_dimension(x), H = x.shape[x.rank - 2], R = row_count(x) / H;
    const int32_t* given_positions = elements<int32_t>(positions);
    parallel_for(call, R, [=](int64_t r, int) {
      double position = static_cast<double>(given_positions ? given_positions[r] : r % period);
      for (int64_t h = 0; h < H; h++) {
        T* head = elements<T>(x) + (r * H + h) * D;
        rotate_halves(head, head, D, position, theta, inverse ? -1.0 : 1.0);
      }
    });
  });
}

// ---- one query against the keys first..last ------------------------------------------------------------------------

template <class T>
Arithmetic<T> dot(const T* a, const T* b, int64_t count) {
  Arithmetic<T> sum = 0;
  for (int64_t i = 0; i < count; i++) sum += value_of(a[i]) * value_of(b[i]);
  return sum;
}

// out = Σ_s softmax_s(scale·q·k_s)·v_s, keys in order, the running maximum taken out (arXiv 1805.02867).
// Key s is at k + offset(s); sums (D) is scratch. Returns the logarithm of the sum of exponentials.
template <class T, class Offset, class A = Arithmetic<T>>
A attend(const T* q, const T* k, const T* v, Offset offset, int64_t first, int64_t last, int64_t D, A scale, A* sums,
         T* out) {
  A largest = -std::numeric_limits<A>::infinity(), total = 0;
  for (int64_t i = 0; i < D; i++) sums[i] = 0;
  for (int64_t s = first; s <= last; s++) {
    A score = scale * dot(q, k + offset(s), D);
    if (score > largest) {
      A rescale = std::exp(largest - score);
      for (int64_t i = 0; i < D; i++) sums[i] *= rescale;
      total *= rescale;
      largest = score;
    }
    A weight = std::exp(score - largest);
    for (int64_t i = 0; i < D; i++) sums[i] += weight * value_of(v[offset(s) + i]);
    total += weight;
  }
  for (int64_t i = 0; i < D; i++) store_scalar(out + i, sums[i] / total);
  return largest + std::log(total);
}

int64_t first_visible(const int32_t* first_key, int64_t row) {
  return first_key && first_key[row] > 0 ? first_key[row] : 0;
}

// ---- attention -----------------------------------------------------------------------------------------------------

struct AttentionShape {
  int64_t B, T, H, G, D;
  AttentionShape(const View& q, const View& k)
      : B(q.shape[0]), T(q.shape[1]), H(q.shape[2]), G(k.shape[2]), D(q.shape[3]) {}
};

size_t arithmetic_bytes(DType dtype) { return dtype == DType::f64 ? sizeof(double) : sizeof(float); }

size_t attention_workspace(const Machine&, In q, In k, In, In, Out, Out, double) {
  AttentionShape n(q, k);
  return n.B * n.H * n.D * arithmetic_bytes(q.dtype);
}

void attention(const Call& call, In q, In k, In v, In first_key, Out out, Out lse, double scale) {
  dispatch(q.dtype, [&]<class T>(Element<T>) {
    using A = Arithmetic<T>;
    AttentionShape n(q, k);
    A* workspace = static_cast<A*>(call.workspace);
    parallel_for(call, n.B * n.H, [=](int64_t task, int) {
      int64_t b = task / n.H, h = task % n.H, g = h * n.G / n.H;
      const T* keys = elements<T>(k) + (b * n.T * n.G + g) * n.D;
      const T* values = elements<T>(v) + (b * n.T * n.G + g) * n.D;
      for (int64_t t = 0; t < n.T; t++) {
        int64_t row = ((b * n.T + t) * n.H + h) * n.D;
        const auto offset = [=](int64_t s) { return s * n.G * n.D; };
        A log_sum =
            attend(elements<T>(q) + row, keys, values, offset, first_visible(elements<int32_t>(first_key), b * n.T + t),
                   t, n.D, static_cast<A>(scale), workspace + task * n.D, elements<T>(out) + row);
        elements<A>(lse)[(b * n.H + h) * n.T + t] = log_sum;
      }
    });
  });
}

// ---- attention backward: p_s = exp(scale·q·k_s − lse), dp_s = dout·v_s, ds = p·(dp − dout·out) ---------------------

template <class T>
struct AttentionGradient {
  using A = Arithmetic<T>;
  const T *q, *out, *dout;  // (D) of one query
  const T *keys, *values;   // of its batch row and group, `stride` apart
  A *dq, *dkeys, *dvalues;  // sums: dq (D), the others (T,D)
  int64_t D, stride;
  A scale;

  void add(int64_t first, int64_t last, A log_sum) const {
    A delta = dot(dout, out, D);
    for (int64_t i = 0; i < D; i++) dq[i] = 0;
    for (int64_t s = first; s <= last; s++) {
      const T *key = keys + s * stride, *value = values + s * stride;
      A weight = std::exp(scale * dot(q, key, D) - log_sum);
      A dscore = scale * weight * (dot(dout, value, D) - delta);
      for (int64_t i = 0; i < D; i++) {
        dq[i] += dscore * value_of(key[i]);
        dkeys[s * D + i] += dscore * value_of(q[i]);
        dvalues[s * D + i] += weight * value_of(dout[i]);
      }
    }
  }
};

// Per (b, g): dk and dv (T,D) each, and one row of dq.
size_t attention_backward_workspace(const Machine&, In q, In k, In, In, In, In, In, Out, Out, Out, double) {
  AttentionShape n(q, k);
  return n.B * n.G * (2 * n.T + 1) * n.D * arithmetic_bytes(q.dtype);
}

void attention_backward(const Call& call, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk,
                        Out dv, double scale) {
  dispatch(q.dtype, [&]<class T>(Element<T>) {
    using A = Arithmetic<T>;
    AttentionShape n(q, k);
    A* workspace = static_cast<A*>(call.workspace);
    parallel_for(call, n.B * n.G, [=](int64_t task, int) {
      int64_t b = task / n.G, g = task % n.G, group = n.H / n.G, base = (b * n.T * n.G + g) * n.D;
      A* dkeys = workspace + task * (2 * n.T + 1) * n.D;
      A* dvalues = dkeys + n.T * n.D;
      A* dquery = dvalues + n.T * n.D;
      for (int64_t i = 0; i < 2 * n.T * n.D; i++) dkeys[i] = 0;
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        for (int64_t t = 0; t < n.T; t++) {
          int64_t row = ((b * n.T + t) * n.H + h) * n.D;
          AttentionGradient<T> gradient{elements<T>(q) + row,
                                        elements<T>(out) + row,
                                        elements<T>(dout) + row,
                                        elements<T>(k) + base,
                                        elements<T>(v) + base,
                                        dquery,
                                        dkeys,
                                        dvalues,
                                        n.D,
                                        n.G * n.D,
                                        static_cast<A>(scale)};
          A log_sum = elements<A>(lse)[(b * n.H + h) * n.T + t];
          gradient.add(first_visible(elements<int32_t>(first_key), b * n.T + t), t, log_sum);
          for (int64_t i = 0; i < n.D; i++) store_scalar(elements<T>(dq) + row + i, dquery[i]);
        }
      }
      for (int64_t t = 0; t < n.T; t++) {
        for (int64_t i = 0; i < n.D; i++) {
          store_scalar(elements<T>(dk) + base + t * n.G * n.D + i, dkeys[t * n.D + i]);
          store_scalar(elements<T>(dv) + base + t * n.G * n.D + i, dvalues[t * n.D + i]);
        }
      }
    });
  });
}

// ---- the cache: (slots, G, capacity, D) ----------------------------------------------------------------------------

struct CacheShape {
  int64_t slots, G, capacity, D;
  explicit CacheShape(const View& cache)
      : slots(cache.shape[0]), G(cache.shape[1]), capacity(cache.shape[2]), D(cache.shape[3]) {}
  bool holds(int64_t sequence, int64_t position) const {
    return sequence >= 0 && sequence < slots && position >= 0 && position < capacity;
  }
  int64_t offset(int64_t sequence, int64_t g) const { return (sequence * G + g) * capacity * D; }
};

void cache_append(const Call& call, In k, In v, In sequence, In position, InOut key_cache, InOut value_cache) {
  dispatch(k.dtype, [&]<class T>(Element<T>) {
    CacheShape n(key_cache);
    for_rows(call, element_count(sequence), n.G * n.D, [=](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; r++) {
        int64_t slot = elements<int32_t>(sequence)[r], place = elements<int32_t>(position)[r];
        if (!n.holds(slot, place)) continue;
        for (int64_t g = 0; g < n.G; g++) {
          int64_t from = (r * n.G + g) * n.D, to = n.offset(slot, g) + place * n.D;
          std::memcpy(elements<T>(key_cache) + to, elements<T>(k) + from, n.D * sizeof(T));
          std::memcpy(elements<T>(value_cache) + to, elements<T>(v) + from, n.D * sizeof(T));
        }
      }
    });
  });
}

void rope_append(const Call& call, In qkv, In sequence, In position, In place, Out q, InOut key_cache,
                 InOut value_cache, double theta) {
  dispatch(q.dtype, [&]<class T>(Element<T>) {
    CacheShape n(key_cache);
    int64_t H = q.shape[1], heads = H + 2 * n.G;
    parallel_for(call, q.shape[0], [=](int64_t r, int) {
      const T* row = elements<T>(qkv) + r * heads * n.D;
      double at = static_cast<double>(elements<int32_t>(position)[r]);
      for (int64_t h = 0; h < H; h++)
        rotate_halves(row + h * n.D, elements<T>(q) + (r * H + h) * n.D, n.D, at, theta, 1.0);
      int64_t slot = elements<int32_t>(sequence)[r], to = elements<int32_t>(place)[r];
      if (!n.holds(slot, to)) return;
      for (int64_t g = 0; g < n.G; g++) {
        int64_t offset = n.offset(slot, g) + to * n.D;
        rotate_halves(row + (H + g) * n.D, elements<T>(key_cache) + offset, n.D, at, theta, 1.0);
        std::memcpy(elements<T>(value_cache) + offset, row + (H + n.G + g) * n.D, n.D * sizeof(T));
      }
    });
  });
}

// Where the key of a row's position s lies in its slot. branch (A): the places of the positions up to `last`, or
// nullptr.
int64_t place_of(const int32_t* branch, int64_t A, int64_t s, int64_t last, int64_t capacity) {
  int64_t i = s - last + A - 1;
  if (!branch || i < 0) return s;
  return branch[i] < 0 ? 0 : branch[i] < capacity ? branch[i] : capacity - 1;
}

size_t attention_cached_workspace(const Machine&, In q, In, In, In, In, In, In, Out, double) {
  return element_count(q) * arithmetic_bytes(q.dtype);
}

// A row whose sequence or position is out of range sees no key: zeros.
void attention_cached(const Call& call, In q, In key_cache, In value_cache, In sequence, In position, In first_key,
                      In branch, Out out, double scale) {
  dispatch(q.dtype, [&]<class T>(Element<T>) {
    using A = Arithmetic<T>;
    CacheShape n(key_cache);
    int64_t R = q.shape[0], H = q.shape[1];
    A* workspace = static_cast<A*>(call.workspace);
    parallel_for(call, R * H, [=](int64_t task, int) {
      int64_t r = task / H, g = task % H * n.G / H;
      int64_t slot = elements<int32_t>(sequence)[r], last = elements<int32_t>(position)[r];
      T* row = elements<T>(out) + task * n.D;
      if (!n.holds(slot, last)) {
        for (int64_t i = 0; i < n.D; i++) store_scalar(row + i, A(0));
        return;
      }
      int64_t base = n.offset(slot, g), tail = last_dimension(branch);
      const int32_t* places = given(branch) ? elements<int32_t>(branch) + r * tail : nullptr;
      const auto offset = [=](int64_t s) { return place_of(places, tail, s, last, n.capacity) * n.D; };
      attend(elements<T>(q) + task * n.D, elements<T>(key_cache) + base, elements<T>(value_cache) + base, offset,
             first_visible(elements<int32_t>(first_key), r), last, n.D, static_cast<A>(scale), workspace + task * n.D,
             row);
    });
  });
}

}  // namespace

void fill_attention(Kernels& table) {
  table.rope = {rope};
  table.attention = {attention, attention_workspace};
  table.attention_backward = {attention_backward, attention_backward_workspace};
  table.cache_append = {cache_append};
  table.rope_append = {rope_append};
  table.attention_cached = {attention_cached, attention_cached_workspace};
}

}  // namespace foretoken::generic
