// Loops over stored elements, kWidth at a time: one body serves full vectors and the tail.
#pragma once
#include "blocks.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

template <class T>
struct Element {
  using type = T;
};

// body(Element<T0>, Element<T1>, …) for any mixture of f32 and bf16: all that a SIMD level stores.
template <int N, class Body, class... Found>
static inline void dispatch_stored(const DType (&dtypes)[N], Body body, Element<Found>... found) {
  if constexpr (sizeof...(Found) == N) {
    body(found...);
  } else {
    if (dtypes[sizeof...(Found)] == DType::bf16)
      dispatch_stored(dtypes, body, found..., Element<bf16>());
    else
      dispatch_stored(dtypes, body, found..., Element<float>());
  }
}

struct AllLanes {};
struct FirstLanes {
  int64_t count;
};

template <class T>
static inline Vec load(const T* p, AllLanes) {
  return load(p);
}
template <class T>
static inline Vec load(const T* p, FirstLanes lanes) {
  return load_n(p, lanes.count);
}
template <class T>
static inline void store(T* p, Vec x, AllLanes) {
  store(p, x);
}
template <class T>
static inline void store(T* p, Vec x, FirstLanes lanes) {
  store_n(p, x, lanes.count);
}

// body(i, lanes) for elements [first, last). Lanes loaded beyond the last are zero.
template <class Body>
static inline void for_vectors(int64_t first, int64_t last, Body body) {
  int64_t i = first;
  for (; i + kWidth <= last; i += kWidth) body(i, AllLanes());
  if (i < last) body(i, FirstLanes{last - i});
}

// Σ_i term(i, lanes), in four interleaved chains so that additions do not wait for one another.
template <class Term>
static inline float sum_vectors(int64_t count, Term term) {
  Vec chains[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth)
    for (int chain = 0; chain < 4; chain++) chains[chain] = add(chains[chain], term(i + chain * kWidth, AllLanes()));
  for_vectors(i, count, [&](int64_t j, auto lanes) { chains[0] = add(chains[0], term(j, lanes)); });
  return reduce_add(add(add(chains[0], chains[1]), add(chains[2], chains[3])));
}

template <class T>
static inline const T* elements(const In& view) {
  return static_cast<const T*>(view.data);
}
template <class T>
static inline T* elements(const Out& view) {
  return static_cast<T*>(view.data);
}
template <class T>
static inline T* elements(const InOut& view) {
  return static_cast<T*>(view.data);
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
