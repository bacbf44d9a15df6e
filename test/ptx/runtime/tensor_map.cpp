#include "tensor_map.h"

#include <cstring>

#include "error.h"
#include "machine/tensor_map.h"

namespace foretoken::ptx::runtime {
namespace {

using machine::TensorElement;
using machine::TensorSwizzle;

void rule(bool kept, const char* text) {
  if (!kept) throw Error(cudaErrorInvalidValue, std::string("cuTensorMapEncodeTiled: ") + text);
}

bool is_float(TensorElement element) { return element >= TensorElement::f16; }

}  // namespace

void encode_tensor_map(CUtensorMap* map, const TensorMapRequest& request) {
  rule(map && reinterpret_cast<uint64_t>(map) % 64 == 0, "the map must be aligned to 64 bytes");
  rule(request.rank >= 1 && request.rank <= machine::kMaxTensorRank, "the rank must be 1 to 5");
  rule(request.dimensions && request.box && request.element_strides && (request.strides || request.rank == 1),
       "a null pointer");
  if (request.type > CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ)
    throw Error(cudaErrorNotSupported, "cuTensorMapEncodeTiled: types of less than a byte are not implemented here");
  if (request.interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
    throw Error(cudaErrorNotSupported, "cuTensorMapEncodeTiled: interleaved layouts are not implemented here");
  if (request.swizzle > CU_TENSOR_MAP_SWIZZLE_128B)
    throw Error(cudaErrorNotSupported, "cuTensorMapEncodeTiled: swizzles of other atoms are not implemented here");

  machine::TensorMap made;
  std::memset(&made, 0, sizeof(made));
  made.magic = machine::kTensorMapMagic;
  made.address = reinterpret_cast<uint64_t>(request.address);
  made.rank = static_cast<uint8_t>(request.rank);
  made.element = static_cast<TensorElement>(request.type);
  made.swizzle = static_cast<TensorSwizzle>(request.swizzle);
  made.fill_nan = request.fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
  rule(made.address && made.address % 16 == 0, "the address must be a multiple of 16");
  rule(!made.fill_nan || is_float(made.element), "NaN fills only tensors of floats");
  for (uint32_t i = 0; i < machine::kMaxTensorRank; i++) {
    const bool given = i < request.rank;
    made.dimensions[i] = given ? request.dimensions[i] : 1;
    made.box[i] = static_cast<uint16_t>(given ? request.box[i] : 1);
    made.element_strides[i] = static_cast<uint8_t>(given ? request.element_strides[i] : 1);
    if (!given) continue;
    rule(request.dimensions[i] >= 1 && request.dimensions[i] <= 1ull << 32, "a dimension must be 1 to 2^32");
    rule(request.box[i] >= 1 && request.box[i] <= 256, "a side of the box must be 1 to 256");
    rule(request.element_strides[i] >= 1 && request.element_strides[i] <= 8, "an element stride must be 1 to 8");
  }
  for (uint32_t i = 0; i + 1 < request.rank; i++) {
    made.strides[i] = request.strides[i];
    rule(request.strides[i] % 16 == 0 && request.strides[i] < 1ull << 40,
         "a stride must be a multiple of 16 and less than 2^40");
  }
  const uint64_t row_bytes =
      uint64_t{request.box[0]} * static_cast<uint64_t>(machine::tensor_element_bytes(made.element));
  rule(row_bytes % 16 == 0, "a row of the box must be a multiple of 16 bytes");
  const uint64_t span = static_cast<uint64_t>(machine::swizzle_span(made.swizzle));
  rule(span == 0 || row_bytes <= span, "a row of the box must fit the swizzle");
  std::memcpy(map, &made, sizeof(made));
}

}  // namespace foretoken::ptx::runtime
