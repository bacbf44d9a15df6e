// Tensor maps where kernels find them: in their parameters, in constant or in global memory.
#pragma once
#include "bulk_copy.h"

namespace foretoken::machine {

// The map at a generic address; faults unless cuTensorMapEncodeTiled made it.
TensorMap read_tensor_map(const Context& c, int lane, uint64_t address);

// The area of a box of it at `origin`; faults for what is not known.
BulkArea tensor_area(const Context& c, int lane, const TensorMap& map, int rank, const TensorCoordinates& origin,
                     uint64_t shared);

}  // namespace foretoken::machine
