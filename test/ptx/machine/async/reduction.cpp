// The element-wise reductions of cp.reduce.async.bulk.
#include <cmath>
#include <cstring>
#include <limits>

#include "../tensor/element.h"
#include "bulk_copy.h"

namespace foretoken::machine {
namespace {

template <class T>
T reduce_integer(Reduction operation, T x, T y) {
  using Unsigned = std::make_unsigned_t<T>;
  switch (operation) {
    case Reduction::add: return static_cast<T>(static_cast<Unsigned>(x) + static_cast<Unsigned>(y));
    case Reduction::min: return x < y ? x : y;
    case Reduction::max: return x < y ? y : x;
    case Reduction::inc: return x >= y ? 0 : x + 1;
    case Reduction::dec: return x == 0 || x > y ? y : x - 1;
    case Reduction::bit_and: return x & y;
    case Reduction::bit_or: return x | y;
    case Reduction::bit_xor: return x ^ y;
    case Reduction::none: break;
  }
  return y;
}

uint16_t float_to_bf16(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// min and max drop a NaN.
template <class T>
T reduce_float(Reduction operation, T x, T y) {
  switch (operation) {
    case Reduction::min: return std::fmin(x, y);
    case Reduction::max: return std::fmax(x, y);
    default: return x + y;
  }
}

template <class T, class F>
void for_elements(void* to, const void* from, uint32_t bytes, F f) {
  for (uint32_t at = 0; at < bytes; at += sizeof(T)) {
    T x, y;
    std::memcpy(&x, static_cast<uint8_t*>(to) + at, sizeof(T));
    std::memcpy(&y, static_cast<const uint8_t*>(from) + at, sizeof(T));
    x = f(x, y);
    std::memcpy(static_cast<uint8_t*>(to) + at, &x, sizeof(T));
  }
}

template <class T>
void reduce_integers(Reduction operation, void* to, const void* from, uint32_t bytes) {
  for_elements<T>(to, from, bytes, [&](T x, T y) { return reduce_integer(operation, x, y); });
}

template <class T>
void reduce_floats(Reduction operation, void* to, const void* from, uint32_t bytes) {
  for_elements<T>(to, from, bytes, [&](T x, T y) { return reduce_float(operation, x, y); });
}

}  // namespace

bool is_reduction(const BulkReduction& reduction) {
  const bool arithmetic = reduction.operation == Reduction::add || reduction.operation == Reduction::min ||
                          reduction.operation == Reduction::max;
  switch (reduction.element) {
    case TensorElement::u32: return true;
    case TensorElement::s32:
    case TensorElement::u64:
    case TensorElement::s64: return reduction.operation != Reduction::inc && reduction.operation != Reduction::dec;
    case TensorElement::f16:
    case TensorElement::bf16: return arithmetic;
    case TensorElement::f32:
    case TensorElement::f64: return reduction.operation == Reduction::add;
    default: return false;
  }
}

void reduce(const BulkReduction& reduction, void* to, const void* from, uint32_t bytes) {
  const Reduction operation = reduction.operation;
  switch (reduction.element) {
    case TensorElement::u32: return reduce_integers<uint32_t>(operation, to, from, bytes);
    case TensorElement::s32: return reduce_integers<int32_t>(operation, to, from, bytes);
    case TensorElement::u64: return reduce_integers<uint64_t>(operation, to, from, bytes);
    case TensorElement::s64: return reduce_integers<int64_t>(operation, to, from, bytes);
    case TensorElement::f32: return reduce_floats<float>(operation, to, from, bytes);
    case TensorElement::f64: return reduce_floats<double>(operation, to, from, bytes);
    case TensorElement::f16:
      return for_elements<uint16_t>(to, from, bytes, [&](uint16_t x, uint16_t y) {
        return float_to_f16(reduce_float(operation, f16_to_float(x), f16_to_float(y)));
      });
    default:
      return for_elements<uint16_t>(to, from, bytes, [&](uint16_t x, uint16_t y) {
        return float_to_bf16(reduce_float(operation, bf16_to_float(x), bf16_to_float(y)));
      });
  }
}

}  // namespace foretoken::machine
