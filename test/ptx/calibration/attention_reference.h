// Attention by plain loops in double, with the sums of magnitudes that rounding errors are measured against.
#pragma once
#include <cmath>
#include <vector>

#include "check.h"
#include "cutlass/numeric_types.h"

namespace calibration {

using f16 = cutlass::half_t;

struct AttentionShape {
  int heads, queries, keys, width;
  bool causal;  // query i sees keys 0 … i
};

// [heads][rows][columns]
struct Heads {
  Heads(int heads, int rows, int columns) : rows(rows), columns(columns), values(size_t(heads) * rows * columns) {}
  double& at(int head, int row, int column) { return values[(size_t(head) * rows + row) * columns + column]; }
  double at(int head, int row, int column) const { return values[(size_t(head) * rows + row) * columns + column]; }
  int rows, columns;
  std::vector<double> values;
};

inline Heads widen(const std::vector<f16>& from, int heads, int rows, int columns) {
  Heads to(heads, rows, columns);
  for (size_t i = 0; i < from.size(); ++i) to.values[i] = float(from[i]);
  return to;
}

// Uniform in −1 … 1, in steps of 1/64.
inline void fill_fractions(Buffer<f16>& buffer, uint32_t seed) {
  buffer.fill(seed, 64);
  for (f16& value : buffer.host) value = f16(float(value) / 64);
  buffer.to_device();
}

struct AttentionForward {
  AttentionForward(const AttentionShape& shape, const Heads& q, const Heads& k, const Heads& v)
      : p(shape.heads, shape.queries, shape.keys),
        o(shape.heads, shape.queries, shape.width),
        o_magnitude(shape.heads, shape.queries, shape.width),
        lse(shape.heads, shape.queries, 1) {
    const double scale = 1 / std::sqrt(double(shape.width));
    for (int h = 0; h < shape.heads; ++h)
      for (int i = 0; i < shape.queries; ++i) {
        const int seen = shape.causal ? std::min(i + 1, shape.keys) : shape.keys;
        double sum = 0;
        for (int j = 0; j < seen; ++j) {
          double score = 0;
          for (int d = 0; d < shape.width; ++d) score += q.at(h, i, d) * k.at(h, j, d);
          sum += p.at(h, i, j) = std::exp(score * scale);
        }
        lse.at(h, i, 0) = std::log(sum);
        for (int j = 0; j < seen; ++j) {
          p.at(h, i, j) /= sum;
          for (int d = 0; d < shape.width; ++d) {
            o.at(h, i, d) += p.at(h, i, j) * v.at(h, j, d);
            o_magnitude.at(h, i, d) += p.at(h, i, j) * std::fabs(v.at(h, j, d));
          }
        }
      }
  }
  Heads p, o, o_magnitude, lse;
};

struct AttentionBackward {
  AttentionBackward(const AttentionShape& shape, const AttentionForward& forward, const Heads& q, const Heads& k,
                    const Heads& v, const Heads& d_o)
      : dq(shape.heads, shape.queries, shape.width),
        dk(shape.heads, shape.keys, shape.width),
        dv(shape.heads, shape.keys, shape.width),
        dq_magnitude(dq),
        dk_magnitude(dk),
        dv_magnitude(dv) {
    const double scale = 1 / std::sqrt(double(shape.width));
    for (int h = 0; h < shape.heads; ++h)
      for (int i = 0; i < shape.queries; ++i) {
        double delta = 0, delta_magnitude = 0;
        for (int d = 0; d < shape.width; ++d) {
          delta += forward.o.at(h, i, d) * d_o.at(h, i, d);
          delta_magnitude += std::fabs(forward.o.at(h, i, d) * d_o.at(h, i, d));
        }
        for (int j = 0; j < shape.keys; ++j) {
          const double p = forward.p.at(h, i, j);
          if (p == 0) continue;
          double dp = 0;
          for (int d = 0; d < shape.width; ++d) dp += d_o.at(h, i, d) * v.at(h, j, d);
          const double ds = p * (dp - delta), ds_magnitude = p * (std::fabs(dp) + delta_magnitude);
          for (int d = 0; d < shape.width; ++d) {
            dv.at(h, j, d) += p * d_o.at(h, i, d);
            dv_magnitude.at(h, j, d) += p * std::fabs(d_o.at(h, i, d));
            dq.at(h, i, d) += ds * k.at(h, j, d) * scale;
            dq_magnitude.at(h, i, d) += ds_magnitude * std::fabs(k.at(h, j, d)) * scale;
            dk.at(h, j, d) += ds * q.at(h, i, d) * scale;
            dk_magnitude.at(h, j, d) += ds_magnitude * std::fabs(q.at(h, i, d)) * scale;
          }
        }
      }
  }
  Heads dq, dk, dv, dq_magnitude, dk_magnitude, dv_magnitude;
};

// Within `roundings` roundings to f16 (2⁻¹¹ each) of the sum of magnitudes.
template <class Element>
void require_near(const char* name, const char* what, const std::vector<Element>& found, const Heads& expected,
                  const Heads& magnitude, double roundings) {
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::fabs(double(float(found[i])) - expected.values[i]);
    const double bound = roundings * 0x1p-11 * magnitude.values[i] + 0x1p-24;
    if (!(error <= worst * bound)) worst = error / bound;
  }
  std::printf("%s, %s: %.2f of the bound\n", name, what, worst);
  require(worst <= 1, name, "is out of its bound");
}

}  // namespace calibration
