// The boxes of tensor copies, against loops over coordinates; the runs have to cover shared memory exactly once.
#include <vector>

#include "../machine/async/tensor_box.h"
#include "doctest.h"

using namespace foretoken::machine;

namespace {

// A dense tensor at address 4096 whose rows are padded to a multiple of 16 bytes.
TensorMap make_map(TensorElement element, std::vector<uint64_t> dimensions, std::vector<uint16_t> box,
                   std::vector<uint8_t> steps = {}) {
  TensorMap map{};
  map.magic = kTensorMapMagic;
  map.address = 4096;
  map.rank = static_cast<uint8_t>(dimensions.size());
  map.element = element;
  uint64_t stride = 0;
  for (int i = 0; i < kMaxTensorRank; ++i) {
    bool there = i < map.rank;
    map.dimensions[i] = there ? dimensions[i] : 1;
    map.box[i] = there ? box[i] : 1;
    map.element_strides[i] = there && !steps.empty() ? steps[i] : 1;
    stride = i == 0 ? (map.dimensions[0] * tensor_element_bytes(element) + 15) / 16 * 16 : stride * map.dimensions[i];
    if (i < kMaxTensorRank - 1) map.strides[i] = stride;
  }
  return map;
}

// Where every byte of the box comes from, by its offset in shared memory; 0 for a byte out of bounds.
std::vector<uint64_t> sources_of(const TensorMap& map, const TensorCoordinates& origin) {
  std::vector<uint64_t> sources(box_bytes(map), 1);
  for (const BoxRun& run : box_runs(map, origin))
    for (uint32_t i = 0; i < run.bytes; ++i) {
      REQUIRE(run.shared_offset + i < sources.size());
      CHECK(sources[run.shared_offset + i] == 1);
      sources[run.shared_offset + i] = run.inside ? run.global + i : 0;
    }
  return sources;
}

std::vector<uint64_t> expected_sources(const TensorMap& map, const TensorCoordinates& origin) {
  std::vector<uint64_t> sources;
  const int size = tensor_element_bytes(map.element);
  auto steps = [&](int i) { return i == 0 ? 1 : static_cast<int>(map.element_strides[i]); };
  for (int e = 0; e < map.box[4]; e += steps(4))
    for (int d = 0; d < map.box[3]; d += steps(3))
      for (int c = 0; c < map.box[2]; c += steps(2))
        for (int b = 0; b < map.box[1]; b += steps(1))
          for (int a = 0; a < map.box[0]; ++a) {
            const int64_t at[] = {origin[0] + a, origin[1] + b, origin[2] + c, origin[3] + d, origin[4] + e};
            bool inside = true;
            int64_t address = static_cast<int64_t>(map.address) + at[0] * size;
            for (int i = 0; i < map.rank; ++i) {
              inside = inside && at[i] >= 0 && at[i] < static_cast<int64_t>(map.dimensions[i]);
              if (i > 0) address += at[i] * static_cast<int64_t>(map.strides[i - 1]);
            }
            for (int byte = 0; byte < size; ++byte) sources.push_back(inside ? address + byte : 0);
          }
  return sources;
}

void check_box(const TensorMap& map, const TensorCoordinates& origin) {
  CAPTURE(origin[0]);
  CAPTURE(origin[1]);
  auto found = sources_of(map, origin), expected = expected_sources(map, origin);
  REQUIRE(found.size() == expected.size());
  CHECK(found == expected);
}

}  // namespace

TEST_CASE("tensor box: every rank, inside, across every edge and outside") {
  auto one = make_map(TensorElement::f32, {100}, {32});
  for (int x : {0, 7, 68, 69, 99, 100, -1, -31, -32, 2000000000}) check_box(one, {x});
  auto two = make_map(TensorElement::bf16, {77, 50}, {64, 8});
  for (int x : {0, 13, 14, 64, 76, -3, -64})
    for (int y : {0, 42, 43, 49, 50, -1, -7}) check_box(two, {x, y});
  auto three = make_map(TensorElement::u8, {40, 9, 5}, {16, 4, 3});
  for (int z : {0, 2, 3, 4, -1}) check_box(three, {24, 6, z});
  check_box(make_map(TensorElement::f64, {10, 5, 4, 3}, {4, 2, 2, 2}), {8, 3, 3, 2});
  check_box(make_map(TensorElement::f16, {16, 3, 4, 3, 6}, {8, 2, 3, 2, 2}), {-1, 2, 1, 2, 5});
}

TEST_CASE("tensor box: element strides skip rows, not columns") {
  auto map = make_map(TensorElement::f32, {64, 30, 7}, {8, 7, 3}, {3, 2, 3});
  CHECK(box_bytes(map) == 8 * 4 * 1 * 4);
  check_box(map, {5, 3, 1});
  check_box(map, {60, 26, 6});
}

TEST_CASE("tensor box: an mbarrier counts the whole box") {
  CHECK(box_bytes(make_map(TensorElement::bf16, {10, 10}, {64, 128})) == 64 * 128 * 2);
  CHECK(box_bytes(make_map(TensorElement::u8, {10}, {256})) == 256);
}
