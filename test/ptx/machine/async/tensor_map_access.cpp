#include "tensor_map_access.h"

#include <algorithm>
#include <cstring>

namespace foretoken::machine {
namespace {

constexpr uint32_t kMapAlignment = 64;

}  // namespace

TensorMap read_tensor_map(const Context& c, int lane, uint64_t address) {
  const Memory& memory = c.launch->parameters->contains(address) ? *c.launch->parameters : c.global();
  if (address % kMapAlignment || memory.first_inaccessible(address, kTensorMapBytes) != address + kTensorMapBytes)
    c.fault(FaultKind::address, lane, "no tensor map lies at this address, or not at a multiple of 64 bytes");
  TensorMap map;
  std::memcpy(&map, memory.cell(address), sizeof map);
  if (memory.first_undefined(address, kTensorMapBytes) != address + kTensorMapBytes || map.magic != kTensorMapMagic)
    c.fault(FaultKind::usage, lane, "the tensor map was never encoded by cuTensorMapEncodeTiled");
  return map;
}

BulkArea tensor_area(const Context& c, int lane, const TensorMap& map, int rank, const TensorCoordinates& origin,
                     uint64_t shared) {
  if (map.rank != rank)
    c.fault(FaultKind::usage, lane,
            "the tensor map has " + std::to_string(map.rank) + " dimensions, the instruction " + std::to_string(rank));
  if (map.element == TensorElement::f32_ftz || map.element == TensorElement::tf32_ftz)
    c.fault(FaultKind::unsupported, lane, "tensor maps that flush subnormals are not known");
  const uint32_t span = static_cast<uint32_t>(swizzle_span(map.swizzle));
  const uint32_t row = map.box[0] * static_cast<uint32_t>(tensor_element_bytes(map.element));
  // How shorter rows are laid out is not documented.
  if (span && row != span)
    c.fault(FaultKind::unsupported, lane,
            "a box whose rows of " + std::to_string(row) + " bytes do not fill the swizzle's span is not known");
  BulkArea area{shared, box_bytes(map), span, box_runs(map, origin)};
  const bool all_inside = std::all_of(area.runs.begin(), area.runs.end(), [](const BoxRun& run) { return run.inside; });
  if (map.fill_nan && !all_inside) c.fault(FaultKind::unsupported, lane, "filling with NaN is not known");
  return area;
}

}  // namespace foretoken::machine
