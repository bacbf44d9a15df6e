// Commit groups by thread, and the element-wise reductions of bulk copies.
#include <initializer_list>

#include "doctest.h"
#include "machine/async/bulk_copy.h"
#include "machine/async/commit_groups.h"
#include "machine/async/scattered_definedness.h"
#include "machine/tensor/element.h"

using namespace foretoken::machine;

namespace {

using Finished = std::vector<std::pair<Mask, int>>;

Finished wait(CommitGroups<int>& groups, Mask lanes, uint32_t allowed, bool keep = false) {
  Finished finished;
  groups.wait(lanes, allowed, keep, [&](Mask waits, int entry) { finished.push_back({waits, entry}); });
  return finished;
}

template <class T>
T reduced(Reduction operation, TensorElement element, T x, T y) {
  reduce({operation, element}, &x, &y, sizeof(T));
  return x;
}

}  // namespace

TEST_CASE("commit groups: oldest first, all but the newest, each once") {
  CommitGroups<int> groups;
  for (int entry : {1, 2, 3}) {
    groups.add(kAllLanes, entry);
    groups.commit(kAllLanes);
  }
  CHECK(wait(groups, kAllLanes, 3).empty());
  CHECK(wait(groups, kAllLanes, 1) == Finished{{kAllLanes, 1}, {kAllLanes, 2}});
  CHECK(wait(groups, kAllLanes, 0) == Finished{{kAllLanes, 3}});
  CHECK(wait(groups, kAllLanes, 0).empty());
}

TEST_CASE("commit groups: what is not committed is not waited for; empty groups count") {
  CommitGroups<int> groups;
  groups.add(kAllLanes, 1);
  CHECK(wait(groups, kAllLanes, 0).empty());
  groups.commit(kAllLanes);
  groups.commit(kAllLanes);
  CHECK(wait(groups, kAllLanes, 1) == Finished{{kAllLanes, 1}});
}

TEST_CASE("commit groups: threads count their own") {
  CommitGroups<int> groups;
  groups.add(0x3, 1);
  groups.commit(0x3);
  groups.add(0x1, 2);
  groups.commit(0x1);
  // Of lane 0 the group with 1 is the second newest, of lane 1 the newest.
  CHECK(wait(groups, 0x3, 1) == Finished{{0x1, 1}});
  CHECK(wait(groups, 0x3, 0) == Finished{{0x2, 1}, {0x1, 2}});
}

TEST_CASE("commit groups: a wait for reads leaves the groups to a later wait") {
  CommitGroups<int> groups;
  groups.add(0x1, 1);
  groups.commit(0x1);
  CHECK(wait(groups, 0x1, 0, true) == Finished{{0x1, 1}});
  CHECK(wait(groups, 0x1, 0) == Finished{{0x1, 1}});
}

TEST_CASE("bulk reductions: wrapping and clamping integers, floats rounded once, NaN dropped by min and max") {
  CHECK(reduced<uint32_t>(Reduction::add, TensorElement::u32, 0xffffffff, 2) == 1);
  CHECK(reduced<int32_t>(Reduction::min, TensorElement::s32, 3, -4) == -4);
  CHECK(reduced<uint32_t>(Reduction::max, TensorElement::u32, 3, 0xfffffffc) == 0xfffffffc);
  CHECK(reduced<uint32_t>(Reduction::inc, TensorElement::u32, 4, 5) == 5);
  CHECK(reduced<uint32_t>(Reduction::inc, TensorElement::u32, 5, 5) == 0);
  CHECK(reduced<uint32_t>(Reduction::dec, TensorElement::u32, 0, 5) == 5);
  CHECK(reduced<uint32_t>(Reduction::dec, TensorElement::u32, 3, 5) == 2);
  CHECK(reduced<uint64_t>(Reduction::bit_xor, TensorElement::u64, 0xf0, 0xff) == 0x0f);
  CHECK(reduced<float>(Reduction::add, TensorElement::f32, 0x1p24f, 1.0f) == 0x1p24f);
  CHECK(reduced<double>(Reduction::add, TensorElement::f64, 0x1p24, 1.0) == 0x1p24 + 1);
  CHECK(reduced<uint16_t>(Reduction::add, TensorElement::f16, float_to_f16(2048), float_to_f16(3)) ==
        float_to_f16(2052));
  CHECK(reduced<uint16_t>(Reduction::add, TensorElement::bf16, 0x4380, 0x3f80) == 0x4380);  // 256 + 1: a tie, to even
  CHECK(reduced<uint16_t>(Reduction::max, TensorElement::bf16, 0x7fc0, 0x3f80) == 0x3f80);
  CHECK_FALSE(is_reduction({Reduction::inc, TensorElement::s32}));
  CHECK_FALSE(is_reduction({Reduction::min, TensorElement::f32}));
  CHECK_FALSE(is_reduction({Reduction::add, TensorElement::u8}));
}

TEST_CASE("scattered definedness: lines and pages that lanes fill together are as each by itself") {
  struct Write {
    uint64_t start;
    uint32_t bytes, step, count;
  };
  // A page and more; a line in two halves, backwards; pieces with gaps; single words.
  for (Write write : {Write{256, 16, 16, 32}, Write{320, 16, 48, 4}, Write{512, 8, 24, 20}, Write{1020, 4, 4, 3}})
    for (uint64_t undefined : {0ull, 0xffffull, 0x00f0ull}) {
      Memory together(0, 4096), alone(0, 4096);
      for (Memory* memory : {&together, &alone}) {
        memory->allocate(64, 3000);
        memory->mark_defined(64, 1500);
      }
      ScatteredDefinedness definedness;
      const uint64_t bits = undefined & ((1u << write.bytes) - 1);
      for (uint32_t i = 0; i < write.count; ++i) {
        const uint64_t address = write.start + (i ^ 1) % write.count * write.step;
        definedness.add(address, write.bytes, bits);
        alone.set_undefined(address, write.bytes, bits);
      }
      definedness.store(together);
      bool same = true;
      for (uint64_t address = 64; address < 3064; ++address)
        same = same && together.undefined(address, 1) == alone.undefined(address, 1);
      CHECK(same);
    }
}
