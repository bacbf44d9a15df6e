// Products with a weight as plain loops: the specification. Packed is row-major here.
#include "dispatch.h"

namespace foretoken::generic {

constexpr int64_t kColumns = 64;  // of a task

static int64_t column_tasks(int64_t columns) { return (columns + kColumns - 1) / kColumns; }

// body(row, first column, last column) over a rows × columns result.
template <class Body>
static void for_strips(const Call& call, int64_t rows, int64_t columns, Body body) {
  int64_t across = column_tasks(columns);
  parallel_for(call, rows * across, [&](int64_t task, int) {
    int64_t first = task % across * kColumns;
    body(task / across, first, smaller(first + kColumns, columns));
  });
}

// Element i of an operand that may be stored in another dtype than the product's, or left out.
template <class A>
static A optional_value(const In& view, int64_t i) {
  A value = 0;
  if (given(view))
    dispatch(view.dtype, [&]<class T>(Element<T>) { value = static_cast<A>(value_of(elements<T>(view)[i])); });
  return value;
}

static void linear(const Call& call, In x, In weight, In bias, In residual, Out y) {
  int64_t m = row_count(x), k = last_dimension(x), n = last_dimension(y);
  dispatch(x.dtype, y.dtype, [&]<class X, class Y>(Element<X>, Element<Y>) {
    for_strips(call, m, n, [&](int64_t row, int64_t first, int64_t last) {
      const X* in = elements<X>(x) + row * k;
      for (int64_t column = first; column < last; column++) {
        const X* w = elements<X>(weight) + column * k;
        Arithmetic<X> sum = 0;
        for (int64_t i = 0; i < k; i++) sum += value_of(in[i]) * value_of(w[i]);
        sum += optional_value<Arithmetic<X>>(bias, column);
        sum += optional_value<Arithmetic<X>>(residual, row * n + column);
        store_scalar(elements<Y>(y) + row * n + column, sum);
      }
    });
  });
}

// to[0, count) (+)= Σ_i scale(i)·row(i)[0, count), i ascending.
template <class A, class To, class Scale, class Row>
static void sum_rows(To* to, int64_t count, int64_t terms, bool accumulate, Scale scale, Row row) {
  A sums[kColumns];
  for (int64_t j = 0; j < count; j++) sums[j] = accumulate ? static_cast<A>(value_of(to[j])) : A(0);
  for (int64_t i = 0; i < terms; i++)
    for (int64_t j = 0; j < count; j++) sums[j] += scale(i) * value_of(row(i)[j]);
  for (int64_t j = 0; j < count; j++) store_scalar(to + j, sums[j]);
}

static void linear_backward_input(const Call& call, In dy, In weight, InOut dx, bool accumulate) {
  int64_t m = row_count(dy), n = last_dimension(dy), k = last_dimension(dx);
  dispatch(dy.dtype, dx.dtype, [&]<class DY, class DX>(Element<DY>, Element<DX>) {
    for_strips(call, m, k, [&](int64_t row, int64_t first, int64_t last) {
      const DY* gradient = elements<DY>(dy) + row * n;
      sum_rows<Arithmetic<DY>>(
          elements<DX>(dx) + row * k + first, last - first, n, accumulate,
          [&](int64_t i) { return value_of(gradient[i]); },
          [&](int64_t i) { return elements<DY>(weight) + i * k + first; });
    });
  });
}

static void linear_backward_weight(const Call& call, In dy, In x, InOut dweight, InOut dbias, bool accumulate) {
  int64_t m = row_count(dy), n = last_dimension(dy), k = last_dimension(x);
  dispatch(dy.dtype, dweight.dtype, [&]<class DY, class DW>(Element<DY>, Element<DW>) {
    const DY* gradient = elements<DY>(dy);
    for_strips(call, n, k, [&](int64_t row, int64_t first, int64_t last) {
      sum_rows<Arithmetic<DY>>(
          elements<DW>(dweight) + row * k + first, last - first, m, accumulate,
          [&](int64_t i) { return value_of(gradient[i * n + row]); },
          [&](int64_t i) { return elements<DY>(x) + i * k + first; });
    });
    if (!given(dbias)) return;
    for_strips(call, 1, n, [&](int64_t, int64_t first, int64_t last) {
      sum_rows<Arithmetic<DY>>(
          elements<DW>(dbias) + first, last - first, m, accumulate, [](int64_t) { return Arithmetic<DY>(1); },
          [&](int64_t i) { return gradient + i * n + first; });
    });
  });
}

static void pack_weight(const Call& call, In weight, Out packed) {
  dispatch(weight.dtype, [&]<class T>(Element<T>) {
    for_blocks(call, element_count(weight), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) elements<T>(packed)[i] = elements<T>(weight)[i];
    });
  });
}

int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k) { return n * k * bytes_per_element(dtype); }

void fill_linear(Kernels& table) {
  table.linear = {linear};
  table.linear_backward_input = {linear_backward_input};
  table.linear_backward_weight = {linear_backward_weight};
  table.pack_weight = {pack_weight};
}

}  // namespace foretoken::generic
