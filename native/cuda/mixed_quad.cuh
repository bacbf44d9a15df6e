// Quads of a view that is f32 or bf16, which of the two known at run time alone: one kernel then serves every mixture.
// For what passes by once or stays in the cache; kernels that wait for several streams at a time know their types.
#pragma once
#include <initializer_list>

#include "failure.h"
#include "quad.cuh"

namespace foretoken::cuda {

struct MixedQuads {
  void* data;
  bool is_bf16;

  explicit MixedQuads(const View& view) : data(view.data), is_bf16(view.dtype == DType::bf16) {}

  __device__ __nv_bfloat16* bf16_at(int64_t i) const { return static_cast<__nv_bfloat16*>(data) + i; }
  __device__ float* f32_at(int64_t i) const { return static_cast<float*>(data) + i; }

  // Elements i … i + 3, of which `left` exist.
  __device__ __forceinline__ Quad load(int64_t i, int64_t left) const {
    return is_bf16 ? load_quad(bf16_at(i), left) : load_quad(f32_at(i), left);
  }
  __device__ __forceinline__ void store(int64_t i, const Quad& x, int64_t left) const {
    is_bf16 ? store_quad(bf16_at(i), x, left) : store_quad(f32_at(i), x, left);
  }
};

// Whether all of these are f32 or bf16; a failure is reported when not.
static inline bool all_mixed(std::initializer_list<DType> dtypes) {
  for (DType dtype : dtypes) {
    if (dtype == DType::f32 || dtype == DType::bf16) continue;
    report_failure("a dtype other than f32 and bf16");
    return false;
  }
  return true;
}

}  // namespace foretoken::cuda
