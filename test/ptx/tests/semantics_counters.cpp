// Counters: instructions by class, sectors of global memory, passes of shared memory. Counted by hand here.
#include "doctest.h"
#include "semantics.h"

using namespace ptx_test;

namespace {

Counters count(const std::string& body, const std::function<void(Device&)>& prepare = {}) {
  Device device;
  if (prepare) prepare(device);
  const uint64_t array = device.put(std::vector<uint32_t>(8192));
  const std::string registers = ".reg .b32 %a, %v, %w; .reg .b64 %l, %d; .reg .pred %q; .reg .f32 %x; .reg .f64 %y;\n";
  return device.run(kernel(registers + body, 1), std::vector<uint64_t>{array}).counters;
}

struct Passes {
  uint64_t all, excess;
  bool operator==(const Passes&) const = default;
};

// Passes of one shared load by each lane at lane * stride % wrap bytes.
Passes passes(const std::string& load, int stride, int wrap = 32768) {
  const std::string address = "mul.lo.u32 %a, %t, " + std::to_string(stride) + ";\nrem.u32 %a, %a, " +
                              std::to_string(wrap) + ";\nadd.u32 %a, %a, %smem;\n";
  const Counters counters = count(address + load + ", [%a];");
  return {counters.shared_wavefronts, counters.shared_wavefronts_excess};
}

struct Sectors {
  uint64_t touched, least, bytes;
  bool operator==(const Sectors&) const = default;
};

// Sectors of one global load by each lane at offset + lane * stride bytes.
Sectors load_sectors(const std::string& load, int stride, int offset = 0) {
  const Counters counters = count("mul.wide.u32 %l, %t, " + std::to_string(stride) + ";\nadd.u64 %l, %l, %p0;\n" +
                                  load + ", [%l+" + std::to_string(offset) + "];");
  return {counters.load_sectors, counters.load_sectors_minimum, counters.load_bytes};
}

}  // namespace

TEST_CASE("shared memory: 32-bit accesses per 32 lanes") {
  CHECK(passes("ld.shared.u32 %v", 4) == Passes{1, 0});
  CHECK(passes("ld.shared.u32 %v", 0) == Passes{1, 0});  // one word for all
  CHECK(passes("ld.shared.u8 %v", 1) == Passes{1, 0});   // four lanes a word
  CHECK(passes("ld.shared.u16 %v", 2) == Passes{1, 0});
  CHECK(passes("ld.shared.u32 %v", 8) == Passes{2, 1});
  CHECK(passes("ld.shared.u32 %v", 12) == Passes{1, 0});  // an odd stride in words
  CHECK(passes("ld.shared.u32 %v", 16) == Passes{4, 3});
  CHECK(passes("ld.shared.u32 %v", 128) == Passes{32, 31});
  CHECK(passes("ld.shared.u32 %v", 132) == Passes{1, 0});  // a row padded by a word
}

TEST_CASE("shared memory: 64-bit accesses per 16 lanes, 128-bit per 8") {
  CHECK(passes("ld.shared.u64 %l", 8) == Passes{2, 0});
  CHECK(passes("ld.shared.v2.u32 {%v, %w}", 8) == Passes{2, 0});
  CHECK(passes("ld.shared.u64 %l", 0) == Passes{2, 0});
  CHECK(passes("ld.shared.u64 %l", 16) == Passes{4, 2});
  CHECK(passes("ld.shared.u64 %l", 128) == Passes{32, 30});
  CHECK(passes("ld.shared.v4.u32 {%v, %w, %v, %w}", 16) == Passes{4, 0});
  CHECK(passes("ld.shared.v2.u64 {%l, %d}", 16) == Passes{4, 0});
  CHECK(passes("ld.shared.v2.u64 {%l, %d}", 32) == Passes{8, 4});
  CHECK(passes("ld.shared.v2.u64 {%l, %d}", 128) == Passes{32, 28});
  CHECK(passes("ld.shared.v2.u64 {%l, %d}", 144) == Passes{4, 0});
  // Four rows, each of them for two lanes of a group.
  CHECK(passes("ld.shared.v2.u64 {%l, %d}", 128, 512) == Passes{16, 12});
}

TEST_CASE("shared stores and atomics count alike; guards leave lanes out") {
  const std::string apart = "mul.lo.u32 %a, %t, 64;\nadd.u32 %a, %a, %smem;\n";
  CHECK(count(apart + "st.shared.u32 [%a], %t;").shared_wavefronts == 16);
  CHECK(count(apart + "setp.lt.u32 %q, %t, 6;\n@%q st.shared.u32 [%a], %t;").shared_wavefronts == 3);
  CHECK(count("st.shared.u32 [%smem], 0;\nbar.warp.sync -1;\nred.shared.add.u32 [%smem], 1;").shared_wavefronts == 2);
}

TEST_CASE("global memory: sectors touched against the least") {
  CHECK(load_sectors("ld.global.u32 %v", 4) == Sectors{4, 4, 128});
  CHECK(load_sectors("ld.global.u32 %v", 0) == Sectors{1, 1, 128});
  CHECK(load_sectors("ld.global.u32 %v", 8) == Sectors{8, 4, 128});
  CHECK(load_sectors("ld.global.u32 %v", 4, 4) == Sectors{5, 4, 128});  // begins inside a sector
  CHECK(load_sectors("ld.global.u32 %v", 512) == Sectors{32, 4, 128});
  CHECK(load_sectors("ld.global.u8 %v", 1) == Sectors{1, 1, 32});
  CHECK(load_sectors("ld.global.v2.u64 {%l, %d}", 16) == Sectors{16, 16, 512});
  // Backwards is as good.
  const Counters backwards =
      count("sub.u32 %a, 31, %t;\nmul.wide.u32 %l, %a, 4;\nadd.u64 %l, %l, %p0;\nst.global.u32 [%l], %t;");
  const Sectors stored{backwards.store_sectors, backwards.store_sectors_minimum, backwards.store_bytes};
  CHECK(stored == Sectors{4, 4, 128});
}

TEST_CASE("instructions by class, per warp and per lane; atomics, barriers, warps, blocks") {
  const std::string body =
      "add.u32 %v, %t, 1;\nmul.lo.u32 %w, %v, 3;\ncvt.rn.f32.u32 %x, %w;\nfma.rn.f32 %x, %x, %x, %x;\n"
      "ex2.approx.f32 %x, %x;\ncvt.f64.f32 %y, %x;\nadd.f64 %y, %y, %y;\nsetp.lt.u32 %q, %t, 8;\n@%q add.u32 %v, %v, "
      "1;\n"
      "bar.sync 0;\nld.global.u32 %v, [%p0];\nred.global.add.u32 [%p0+64], 1;\nshfl.sync.idx.b32 %w, %v, 0, 31, -1;";
  constexpr uint64_t kWarps = 6;
  for (uint64_t seed : {1, 2, 3}) {
    const Counters counters = count(body, [&](Device& device) {
      device.options.seed = seed;
      device.shape.block = {64};
      device.shape.grid = {3};
    });
    const auto of = [&](Class c) { return counters.instructions[static_cast<size_t>(c)]; };
    CHECK(counters.blocks == 3);
    CHECK(counters.warps == kWarps);
    CHECK(of(Class::integer) == 3 * kWarps);
    // The first eight lanes of each block's first warp have the guarded one.
    CHECK(counters.lane_instructions[static_cast<size_t>(Class::integer)] == 2 * 32 * kWarps + 3 * 8);
    CHECK(of(Class::convert) == 2 * kWarps);
    for (Class c : {Class::float32, Class::special, Class::float64, Class::global_load, Class::atomic, Class::shuffle})
      CHECK(of(c) == kWarps);
    CHECK(of(Class::barrier) == kWarps);  // however often a warp looks whether the others have come
    CHECK(of(Class::control) == kWarps);  // ret
    CHECK(counters.barriers == kWarps);
    CHECK(counters.atomics == 32 * kWarps);
    CHECK(counters.divergent_branches == 0);
  }
  CHECK(count("setp.lt.u32 %q, %t, 8;\n@%q bra end;\nadd.u32 %v, %t, 1;\nend:\n").divergent_branches == 1);
}
