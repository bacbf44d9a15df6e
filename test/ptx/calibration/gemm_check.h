// D = αAB + βC of a CUTLASS kernel against a plain loop. The operands are small integers, so that every sum is exact in
// fp32 in whatever order it is made, and D has to agree to the last bit.
#pragma once
#include "check.h"
#include "cutlass/cutlass.h"
#include "cutlass/layout/matrix.h"
#include "cutlass/numeric_types.h"

namespace calibration {

inline void require(cutlass::Status status, const char* what) {
  require(status == cutlass::Status::kSuccess, what, cutlass::cutlassGetStatusString(status));
}

template <class Layout>
constexpr bool kRowMajor = std::is_same_v<Layout, cutlass::layout::RowMajor>;

// Distance between rows or columns of a dense matrix.
template <class Layout>
int leading(int rows, int columns) {
  return kRowMajor<Layout> ? columns : rows;
}
template <class Layout>
size_t at(int row, int column, int rows, int columns) {
  return kRowMajor<Layout> ? size_t(row) * columns + column : size_t(column) * rows + row;
}

// The matrices of one product; `run(problem)` launches it.
template <class ElementA, class LayoutA, class ElementB, class LayoutB, class ElementC, class ElementD, class LayoutC>
struct Problem {
  int m, n, k;
  float alpha, beta;
  Buffer<ElementA> a{size_t(m) * k};  // [m][k]
  Buffer<ElementB> b{size_t(k) * n};  // [k][n]
  Buffer<ElementC> c{size_t(m) * n};  // [m][n]
  Buffer<ElementD> d{size_t(m) * n};  // [m][n]

  Problem(int m, int n, int k, float alpha, float beta) : m(m), n(n), k(k), alpha(alpha), beta(beta) {
    a.fill(1, 2);
    b.fill(2, 2);
    c.fill(3, 3);
  }

  void check(const char* name) {
    finish(name);
    d.to_host();
    size_t wrong = 0;
    for (int row = 0; row < m; ++row)
      for (int column = 0; column < n; ++column) {
        float sum = 0;
        for (int i = 0; i < k; ++i)
          sum += float(a.host[at<LayoutA>(row, i, m, k)]) * float(b.host[at<LayoutB>(i, column, k, n)]);
        size_t place = at<LayoutC>(row, column, m, n);
        float expected = alpha * sum + (beta != 0 ? beta * float(c.host[place]) : 0.0f);
        float found = float(d.host[place]), rounded = float(ElementD(expected));
        if (found == rounded) continue;
        if (wrong++ < 3) std::printf("%s: d[%d][%d] is %g, not %g\n", name, row, column, found, rounded);
      }
    std::printf("%s %dx%dx%d alpha %g beta %g: %s\n", name, m, n, k, alpha, beta, wrong ? "WRONG" : "exact");
    require(wrong == 0, name, "differs from the plain loop");
  }
};

}  // namespace calibration
