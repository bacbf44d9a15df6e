// Element-wise kernels of a SIMD level. What moves no floats (fill, gather_rows) and what is called once
// (random_normal) stays generic.
#include "vector.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

static void (*generic_cast)(const Call&, In, Out);  // copies, and anything with f64

static bool stored(const View& view) { return view.dtype == DType::f32 || view.dtype == DType::bf16; }

static void cast(const Call& call, In x, Out y) {
  if (x.dtype == y.dtype || !stored(x) || !stored(y)) return generic_cast(call, x, y);
  dispatch_stored({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for_vectors(first, last, [=](int64_t i, auto lanes) { store(out + i, load(in + i, lanes), lanes); });
    });
  });
}

static void add(const Call& call, In a, In b, Out y) {
  dispatch_stored({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    const A* left = elements<A>(a);
    const B* right = elements<B>(b);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for_vectors(first, last, [=](int64_t i, auto lanes) {
        store(out + i, add(load(left + i, lanes), load(right + i, lanes)), lanes);
      });
    });
  });
}

static void scale(const Call& call, In x, double alpha, Out y) {
  dispatch_stored({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      Vec factor = broadcast(static_cast<float>(alpha));
      for_vectors(first, last, [=](int64_t i, auto lanes) { store(out + i, mul(factor, load(in + i, lanes)), lanes); });
    });
  });
}

static void multiply(const Call& call, In a, In b, Out y) {
  bool one = element_count(b) == 1;
  dispatch_stored({a.dtype, b.dtype, y.dtype}, [&]<class A, class B, class Y>(Element<A>, Element<B>, Element<Y>) {
    const A* left = elements<A>(a);
    const B* right = elements<B>(b);
    Y* out = elements<Y>(y);
    float factor = one ? value_of(right[0]) : 0;
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      for_vectors(first, last, [=](int64_t i, auto lanes) {
        Vec by = one ? broadcast(factor) : load(right + i, lanes);
        store(out + i, mul(load(left + i, lanes), by), lanes);
      });
    });
  });
}

static void accumulate(const Call& call, In x, double alpha, InOut y) {
  dispatch_stored({x.dtype, y.dtype}, [&]<class X, class Y>(Element<X>, Element<Y>) {
    const X* in = elements<X>(x);
    Y* out = elements<Y>(y);
    for_blocks(call, element_count(y), [=](int64_t first, int64_t last) {
      Vec factor = broadcast(static_cast<float>(alpha));
      for_vectors(first, last, [=](int64_t i, auto lanes) {
        store(out + i, fma(factor, load(in + i, lanes), load(out + i, lanes)), lanes);
      });
    });
  });
}

void fill_elementwise(Kernels& table) {
  generic_cast = table.cast.run;
  table.cast = {cast};
  table.add = {add};
  table.scale = {scale};
  table.multiply = {multiply};
  table.accumulate = {accumulate};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
