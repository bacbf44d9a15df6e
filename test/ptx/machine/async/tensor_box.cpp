#include "tensor_box.h"

#include <algorithm>

namespace foretoken::machine {
namespace {

// Elements along a dimension of the box: every element_strides-th. Dimension 0 has no stride.
uint32_t box_count(const TensorMap& map, int dimension) {
  uint32_t step = dimension == 0 ? 1 : map.element_strides[dimension];
  return (map.box[dimension] + step - 1) / step;
}

// One row of the box: box[0] elements from x on. `row`: where the tensor's row begins in global memory.
void add_row(const TensorMap& map, int64_t x, bool row_inside, uint64_t row, uint32_t shared_offset,
             std::vector<BoxRun>& runs) {
  const int64_t size = tensor_element_bytes(map.element), row_bytes = map.box[0] * size;
  const int64_t extent = static_cast<int64_t>(map.dimensions[0]);
  // Bytes of this row that exist, counted from its first in the box.
  const int64_t first = row_inside ? std::clamp<int64_t>(-x * size, 0, row_bytes) : row_bytes;
  const int64_t end = row_inside ? std::clamp<int64_t>((extent - x) * size, first, row_bytes) : row_bytes;
  auto add = [&](int64_t from, int64_t to, bool inside) {
    if (from < to)
      runs.push_back({shared_offset + static_cast<uint32_t>(from), row + static_cast<uint64_t>(x * size + from),
                      static_cast<uint32_t>(to - from), inside});
  };
  add(0, first, false);
  add(first, end, true);
  add(end, row_bytes, false);
}

}  // namespace

uint32_t box_bytes(const TensorMap& map) {
  uint32_t bytes = static_cast<uint32_t>(tensor_element_bytes(map.element));
  for (int i = 0; i < map.rank; ++i) bytes *= box_count(map, i);
  return bytes;
}

std::vector<BoxRun> box_runs(const TensorMap& map, const TensorCoordinates& origin) {
  std::vector<BoxRun> runs;
  std::array<uint32_t, kMaxTensorRank> index{};  // in the box; dimension 0 stays 0: rows are taken whole
  uint32_t shared_offset = 0;
  for (;;) {
    bool inside = true;
    uint64_t row = map.address;
    for (int i = 1; i < map.rank; ++i) {
      int64_t at = origin[i] + static_cast<int64_t>(index[i]) * map.element_strides[i];
      inside = inside && at >= 0 && static_cast<uint64_t>(at) < map.dimensions[i];
      row += static_cast<uint64_t>(at) * map.strides[i - 1];
    }
    add_row(map, origin[0], inside, row, shared_offset, runs);
    shared_offset += map.box[0] * static_cast<uint32_t>(tensor_element_bytes(map.element));
    int dimension = 1;
    while (dimension < map.rank && ++index[dimension] == box_count(map, dimension)) index[dimension++] = 0;
    if (dimension >= map.rank) return runs;
  }
}

}  // namespace foretoken::machine
