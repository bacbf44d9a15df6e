// cuTensorMapEncodeTiled: checked as the driver's manual says, written as machine::TensorMap.
#pragma once
#include <cuda.h>

namespace foretoken::ptx::runtime {

struct TensorMapRequest {
  CUtensorMapDataType type;
  cuuint32_t rank;
  void* address;
  const cuuint64_t* dimensions;       // [rank] elements
  const cuuint64_t* strides;          // [rank - 1] bytes
  const cuuint32_t* box;              // [rank] elements
  const cuuint32_t* element_strides;  // [rank]
  CUtensorMapInterleave interleave;
  CUtensorMapSwizzle swizzle;
  CUtensorMapL2promotion promotion;
  CUtensorMapFloatOOBfill fill;
};

// Throws Error (cudaErrorInvalidValue) naming the rule that is broken.
void encode_tensor_map(CUtensorMap* map, const TensorMapRequest& request);

}  // namespace foretoken::ptx::runtime
