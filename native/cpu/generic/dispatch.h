// From a view's dtype to a C++ type: what the plain loops of the generic level share.
#pragma once
#include <type_traits>

#include "../../core/bf16.h"
#include "../blocks.h"

namespace foretoken::generic {

template <class T>
struct Element {
  using type = T;
};

// body(Element<T>) for the view's T; nothing for a dtype that the door lets through to no arithmetic kernel.
template <class Body>
static inline void dispatch(DType dtype, Body body) {
  switch (dtype) {
    case DType::f32: body(Element<float>()); break;
    case DType::bf16: body(Element<bf16>()); break;
    case DType::f64: body(Element<double>()); break;
    default: break;
  }
}
template <class Body>
static inline void dispatch(DType first, DType second, Body body) {
  dispatch(first, [&](auto a) { dispatch(second, [&](auto b) { body(a, b); }); });
}

// body(Element<T0>, Element<T1>, …): any mixture of f32 and bf16, or f64 throughout.
template <int N, class Body, class... Found>
static inline void dispatch_alike(const DType (&dtypes)[N], Body body, Element<Found>... found) {
  if constexpr (sizeof...(Found) == N) {
    body(found...);
  } else {
    DType next = dtypes[sizeof...(Found)];
    if constexpr ((!std::is_same_v<Found, double> && ...)) {
      if (next == DType::f32) dispatch_alike(dtypes, body, found..., Element<float>());
      if (next == DType::bf16) dispatch_alike(dtypes, body, found..., Element<bf16>());
    }
    if constexpr ((std::is_same_v<Found, double> && ...)) {
      if (next == DType::f64) dispatch_alike(dtypes, body, found..., Element<double>());
    }
  }
}

// What a stored type is calculated in: float for float and bf16, double for double.
template <class T>
using Arithmetic = decltype(value_of(T()));

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

}  // namespace foretoken::generic
