// Element-wise kernels as plain loops: the specification.
#include <cstring>

#include "../../core/normal.h"
#include "dispatch.h"

namespace foretoken::generic {

// ---- fill: y = value -----------------------------------------------------------------------------------------------

template <class T>
static void fill_elements(const Call& call, const Out& y, T value) {
  T* out = elements<T>(y);
  for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) out[i] = value;
  });
}

static void fill(const Call& call, Out y, double value) {
  switch (y.dtype) {
    case DType::f32: return fill_elements(call, y, static_cast<float>(value));
    case DType::bf16: return fill_elements(call, y, to_bf16(value));
    case DType::f64: return fill_elements(call, y, value);
    case DType::i32: return fill_elements(call, y, static_cast<int32_t>(value));
    case DType::u8: return fill_elements(call, y, static_cast<uint8_t>(value));
  }
}

// ---- cast: y = x ---------------------------------------------------------------------------------------------------

static void copy(const Call& call, const In& x, const Out& y) {
  const char* in = elements<char>(x);
  char* out = elements<char>(y);
  for_blocks(call, element_count(y) * bytes_per_element(y.dtype),
             [=](int64_t first, int64_t last) { std::memmove(out + first, in + first, last - first); });
}

static void cast(const Call& call, In x, Out y) {
  if (x.dtype == y.dtype) return copy(call, x, y);
  dispatch(x.dtype, y.dtype, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, value_of(in[i]));
    });
  });
}

// ---- add: y = a + b ------------------------------------------------------------------------------------------------

static void add(const Call& call, In a, In b, Out y) {
  dispatch_alike({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    const A* left = elements<A>(a);
    const B* right = elements<B>(b);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, value_of(left[i]) + value_of(right[i]));
    });
  });
}

// ---- scale: y = alpha·x -------------------------------------------------------------------------------------------

static void scale(const Call& call, In x, double alpha, Out y) {
  dispatch_alike({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    auto factor = static_cast<Arithmetic<X>>(alpha);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, factor * value_of(in[i]));
    });
  });
}

// ---- multiply: y = a·b, b of a's shape or one element -------------------------------------------------------------

static void multiply(const Call& call, In a, In b, Out y) {
  int64_t step = element_count(b) == 1 ? 0 : 1;
  dispatch_alike({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    const A* left = elements<A>(a);
    const B* right = elements<B>(b);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, value_of(left[i]) * value_of(right[i * step]));
    });
  });
}

// ---- accumulate: y += alpha·x -------------------------------------------------------------------------------------

static void accumulate(const Call& call, In x, double alpha, InOut y) {
  dispatch_alike({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    auto factor = static_cast<Arithmetic<X>>(alpha);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, value_of(out[i]) + factor * value_of(in[i]));
    });
  });
}

// ---- random_normal: y[i] = mean + std·normal(Philox(seed, stream, i)) ---------------------------------------------

static void random_normal(const Call& call, Out y, double mean, double std, int64_t seed, int64_t stream) {
  dispatch(y.dtype, [&]<class Y>(Element<Y>) {
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) store_scalar(out + i, mean + std * normal(philox(seed, stream, i)));
    });
  });
}

// ---- gather_rows: y[m] = x[index[m]], zeros where the index is outside ---------------------------------------------

static void gather_rows(const Call& call, In x, In index, Out y) {
  const char* in = elements<char>(x);
  char* out = elements<char>(y);
  const int32_t* source = elements<int32_t>(index);
  int64_t rows = row_count(x), columns = last_dimension(x), bytes = columns * bytes_per_element(x.dtype);
  for_rows(call, element_count(index), columns, [=](int64_t first, int64_t last) {
    for (int64_t m = first; m < last; m++) {
      bool inside = source[m] >= 0 && source[m] < rows;
      if (inside)
        std::memcpy(out + m * bytes, in + source[m] * bytes, bytes);
      else
        std::memset(out + m * bytes, 0, bytes);
    }
  });
}

void fill_elementwise(Kernels& table) {
  table.fill = {fill};
  table.cast = {cast};
  table.add = {add};
  table.scale = {scale};
  table.multiply = {multiply};
  table.accumulate = {accumulate};
  table.random_normal = {random_normal};
  table.gather_rows = {gather_rows};
}

}  // namespace foretoken::generic
