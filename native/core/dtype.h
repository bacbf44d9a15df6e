// The dtype table: every fact about an element type, once.
#pragma once
#include <cstdint>

namespace foretoken {

// X(enumerator, C++ type, bytes per element)
#define FORETOKEN_DTYPES(X)     \
  X(f32, float, 4)              \
  X(bf16, ::foretoken::bf16, 2) \
  X(f64, double, 8)             \
  X(i32, int32_t, 4)            \
  X(u8, uint8_t, 1)

// bfloat16: the upper half of an IEEE float. Arithmetic happens in float.
struct bf16 {
  uint16_t bits;
};

enum class DType : uint8_t {
#define X(name, type, bytes) name,
  FORETOKEN_DTYPES(X)
#undef X
};

static inline int64_t bytes_per_element(DType dtype) {
  switch (dtype) {
#define X(name, type, bytes) \
  case DType::name: return bytes;
    FORETOKEN_DTYPES(X)
#undef X
  }
  return 0;
}

static inline const char* dtype_name(DType dtype) {
  switch (dtype) {
#define X(name, type, bytes) \
  case DType::name: return #name;
    FORETOKEN_DTYPES(X)
#undef X
  }
  return "?";
}

}  // namespace foretoken
