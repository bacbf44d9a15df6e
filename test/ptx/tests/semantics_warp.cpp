// shfl, vote, match, redux, elect, activemask, bar.warp.sync: together, parted, and with lanes gone.
#include <bit>

#include "doctest.h"
#include "semantics.h"

using namespace ptx_test;

namespace {

// Results by lane of a body that leaves a 32-bit result in %r, for these inputs in %v.
std::vector<uint32_t> by_lane(const std::string& body, const std::vector<uint32_t>& input, uint64_t seed = 1,
                              uint32_t threads = 32) {
  Device device;
  device.options.seed = seed;
  device.shape.block = {threads};
  const uint64_t out = device.put(std::vector<uint32_t>(threads, 0xeeeeeeee));
  device.run(kernel(".reg .u64 %o, %i; .reg .b32 %r, %v, %x<8>; .reg .pred %q, %w, %odd, %low; .reg .b64 %l;\n"
                    "mul.wide.u32 %o, %t, 4;\nadd.u64 %i, %o, %p0;\nadd.u64 %o, %o, %p1;\nld.global.u32 %v, [%i];\n"
                    "and.b32 %x0, %t, 1;\nsetp.ne.u32 %odd, %x0, 0;\nsetp.lt.u32 %low, %t, 8;\nmov.u32 %r, 0;\n" +
                        body + "\nst.global.u32 [%o], %r;",
                    2),
             std::vector<uint64_t>{device.put(input), out});
  return device.get<uint32_t>(out, threads);
}

std::vector<uint32_t> lanes(const std::function<uint32_t(uint32_t)>& f, uint32_t count = 32) {
  std::vector<uint32_t> result;
  for (uint32_t lane = 0; lane < count; ++lane) result.push_back(f(lane));
  return result;
}

const std::vector<uint32_t> kInput = lanes([](uint32_t lane) { return lane * lane + 100; });

}  // namespace

TEST_CASE("shfl.sync: four modes, segments, clamps, the predicate") {
  for (const char* mode : {"up", "down", "bfly", "idx"})
    for (uint32_t amount : {0u, 1u, 3u, 5u, 8u, 16u, 31u})
      for (uint32_t control : {0x1fu, 0x0u, 0x181fu, 0x1800u, 0x1c07u, 0x1003u, 0x0a05u}) {
        CAPTURE(mode);
        CAPTURE(amount);
        CAPTURE(control);
        const std::string text = std::string("shfl.sync.") + mode + ".b32 %r|%q, %v, " + std::to_string(amount) + ", " +
                                 std::to_string(control) + ", -1;\nselp.u32 %x1, 0x10000, 0, %q;\nor.b32 %r, %r, %x1;";
        const std::string name = mode;
        const auto expected = lanes([&](uint32_t lane) {
          // The manual's pseudocode.
          const int segment = control >> 8 & 31, c = control & 31, b = static_cast<int>(amount & 31),
                    l = static_cast<int>(lane);
          const int most = (l & segment) | (c & ~segment), least = l & segment;
          int j = 0;
          bool p = false;
          if (name == "up") j = l - b, p = j >= most;
          if (name == "down") j = l + b, p = j <= most;
          if (name == "bfly") j = l ^ b, p = j <= most;
          if (name == "idx") j = least | (b & ~segment), p = j <= most;
          if (!p) j = l;
          return kInput[static_cast<size_t>(j)] | (p ? 0x10000u : 0);
        });
        CHECK(by_lane(text, kInput) == expected);
      }
  // Amount by lane.
  CHECK(by_lane("sub.u32 %x1, 31, %t;\nshfl.sync.idx.b32 %r, %v, %x1, 31, -1;", kInput) ==
        lanes([](uint32_t lane) { return kInput[31 - lane]; }));
}

TEST_CASE("vote.sync, activemask") {
  const std::string is_even = "setp.ge.u32 %q, %v, 356;\n";  // lanes 16 … 31
  const auto constant = [](uint32_t value) { return lanes([=](uint32_t) { return value; }); };
  CHECK(by_lane(is_even + "vote.sync.ballot.b32 %r, %q, -1;", kInput) == constant(0xffff0000));
  CHECK(by_lane(is_even + "vote.sync.ballot.b32 %r, !%q, -1;", kInput) == constant(0x0000ffff));
  CHECK(by_lane(is_even + "vote.sync.any.pred %w, %q, -1;\nselp.u32 %r, 1, 2, %w;", kInput) == constant(1));
  CHECK(by_lane(is_even + "vote.sync.all.pred %w, %q, -1;\nselp.u32 %r, 1, 2, %w;", kInput) == constant(2));
  CHECK(by_lane(is_even + "vote.sync.uni.pred %w, %q, -1;\nselp.u32 %r, 1, 2, %w;", kInput) == constant(2));
  CHECK(by_lane("setp.ge.u32 %q, %v, 0;\nvote.sync.uni.pred %w, !%q, -1;\nselp.u32 %r, 1, 2, %w;", kInput) ==
        constant(1));
  CHECK(by_lane("activemask.b32 %r;", kInput) == constant(0xffffffff));
  CHECK(by_lane("@%odd activemask.b32 %r;", kInput) == lanes([](uint32_t lane) { return lane % 2 ? 0xaaaaaaaau : 0; }));
}

TEST_CASE("match.sync") {
  const auto groups = lanes([](uint32_t lane) { return lane / 5; });
  const auto expected = lanes([&](uint32_t lane) {
    uint32_t mask = 0;
    for (uint32_t other = 0; other < 32; ++other) mask |= static_cast<uint32_t>(other / 5 == lane / 5) << other;
    return mask;
  });
  CHECK(by_lane("match.any.sync.b32 %r, %v, -1;", groups) == expected);
  CHECK(by_lane("mov.b64 %l, {%v, %v};\nmatch.any.sync.b64 %r, %l, -1;", groups) == expected);
  const auto all = "match.all.sync.b32 %x1|%q, %v, -1;\nselp.u32 %r, %x1, 7, %q;";
  CHECK(by_lane(all, groups) == lanes([](uint32_t) { return 7; }));
  CHECK(by_lane(all, std::vector<uint32_t>(32, 9)) == lanes([](uint32_t) { return 0xffffffff; }));
}

TEST_CASE("redux.sync") {
  const auto values = lanes([](uint32_t lane) { return lane * 0x01234567u - 0x70000000u; });
  const auto folded = [&](auto op) {
    uint32_t result = values[0];
    for (uint32_t lane = 1; lane < 32; ++lane) result = op(result, values[lane]);
    return lanes([=](uint32_t) { return result; });
  };
  const auto of = [&](const std::string& op) { return by_lane("redux.sync." + op + " %r, %v, -1;", values); };
  CHECK(of("add.u32") == folded([](uint32_t a, uint32_t b) { return a + b; }));
  CHECK(of("add.s32") == folded([](uint32_t a, uint32_t b) { return a + b; }));
  CHECK(of("min.u32") == folded([](uint32_t a, uint32_t b) { return std::min(a, b); }));
  CHECK(of("max.u32") == folded([](uint32_t a, uint32_t b) { return std::max(a, b); }));
  CHECK(of("min.s32") ==
        folded([](uint32_t a, uint32_t b) { return static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b; }));
  CHECK(of("max.s32") ==
        folded([](uint32_t a, uint32_t b) { return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b; }));
  CHECK(of("and.b32") == folded([](uint32_t a, uint32_t b) { return a & b; }));
  CHECK(of("or.b32") == folded([](uint32_t a, uint32_t b) { return a | b; }));
  CHECK(of("xor.b32") == folded([](uint32_t a, uint32_t b) { return a ^ b; }));
}

TEST_CASE("elect.sync: one lane, the same one for the same mask") {
  CHECK(by_lane("elect.sync %x1|%q, -1;\nselp.u32 %r, 100, %x1, %q;", kInput) ==
        lanes([](uint32_t lane) { return lane == 0 ? 100u : 0u; }));
  const std::string upper =
      "setp.ge.u32 %q, %t, 20;\n@!%q bra done;\nelect.sync %x1|%w, 0xfff00000;\nselp.u32 %r, 100, %x1, %w;\ndone:\n";
  CHECK(by_lane(upper, kInput) == lanes([](uint32_t lane) { return lane < 20 ? 0u : lane == 20 ? 100u : 20u; }));
}

TEST_CASE("groups: each lane names its own mask") {
  // Four groups of eight lanes, one instruction.
  const std::string masks = "shr.u32 %x1, %t, 3;\nshl.b32 %x1, %x1, 3;\nshl.b32 %x2, 255, %x1;\n";
  CHECK(by_lane(masks + "redux.sync.add.u32 %r, %v, %x2;", kInput) == lanes([](uint32_t lane) {
          uint32_t sum = 0;
          for (uint32_t k = lane / 8 * 8; k < lane / 8 * 8 + 8; ++k) sum += kInput[k];
          return sum;
        }));
}

TEST_CASE("lanes that have parted exchange values from different instructions") {
  // A full-mask shuffle in both arms of an if, as nvcc leaves it.
  const std::string text =
      "@%odd bra odd_arm;\nadd.u32 %v, %v, 1000;\nshfl.sync.bfly.b32 %r, %v, 1, 31, -1;\nbra together;\n"
      "odd_arm:\nadd.u32 %v, %v, 2000;\nadd.u32 %v, %v, 3;\nshfl.sync.bfly.b32 %r, %v, 1, 31, -1;\nadd.u32 %r, %r, "
      "7;\ntogether:\n";
  const auto expected =
      lanes([](uint32_t lane) { return lane % 2 ? kInput[lane - 1] + 1007 : kInput[lane + 1] + 2003; });
  for (uint64_t seed = 1; seed <= 20; ++seed) CHECK(by_lane(text, kInput, seed) == expected);
  // bar.warp.sync in both arms orders what is written to shared memory before it.
  const std::string memory =
      ".reg .u32 %s;\nshl.b32 %s, %t, 2;\nadd.u32 %s, %s, %smem;\nst.shared.u32 [%s], %v;\nxor.b32 %x3, %t, "
      "1;\nshl.b32 %x3, %x3, 2;\n"
      "add.u32 %x3, %x3, %smem;\n@%low bra low_arm;\nbar.warp.sync -1;\nbra both;\nlow_arm:\nbar.warp.sync "
      "-1;\nboth:\nld.shared.u32 %r, [%x3];";
  for (uint64_t seed = 1; seed <= 20; ++seed)
    CHECK(by_lane(memory, kInput, seed) == lanes([](uint32_t lane) { return kInput[lane ^ 1]; }));
}

TEST_CASE("lanes that have exited are not waited for") {
  // Lanes 0 … 7 leave; the others name them in their mask all the same.
  const std::string text = "@%low exit;\nvote.sync.ballot.b32 %r, %odd, -1;";
  CHECK(by_lane(text, kInput) == lanes([](uint32_t lane) { return lane < 8 ? 0xeeeeeeee : 0xaaaaaa00; }));
  // They leave late, while the others wait.
  const std::string late =
      "@!%low bra stay;\nmov.u32 %x1, 0;\nmore:\nadd.u32 %x1, %x1, 1;\nsetp.lt.u32 %q, %x1, 300;\n@%q bra "
      "more;\nexit;\n"
      "stay:\nvote.sync.ballot.b32 %r, %odd, -1;";
  for (uint64_t seed = 1; seed <= 5; ++seed)
    CHECK(by_lane(late, kInput, seed) == lanes([](uint32_t lane) { return lane < 8 ? 0xeeeeeeee : 0xaaaaaa00; }));
  // A warp that is not full.
  CHECK(by_lane("vote.sync.ballot.b32 %r, %odd, -1;", lanes([](uint32_t k) { return k; }, 20), 1, 20) ==
        lanes([](uint32_t) { return 0x000aaaaau; }, 20));
}

TEST_CASE("rules: a lane outside its own mask, an undefined mask, a lane that never comes") {
  Device device;
  const auto fault = [&](const std::string& body) {
    return device.fault(kernel(".reg .b32 %r, %u; .reg .pred %q;\n" + body, 1), std::vector<uint64_t>{0});
  };
  CHECK(contains(fault("shfl.sync.idx.b32 %r, %t, 0, 31, 0xffff;"), "not in its own membership mask"));
  CHECK(contains(fault("shfl.sync.idx.b32 %r, %t, 0, 31, %u;"), "an undefined value decides a membership mask"));
  CHECK(contains(fault("shfl.sync.idx.b32 %r, %t, %u, 31, -1;"), "an undefined value decides a shuffle's lane"));
  const std::string parted =
      fault("setp.lt.u32 %q, %t, 4;\n@%q bra.uni skip;\nvote.sync.ballot.b32 %r, %q, -1;\nskip:\nbar.sync 0;");
  CHECK(contains(parted, "deadlock"));
  CHECK(contains(parted, "waits for a vote"));
  CHECK(contains(parted, "waits for the barrier"));
}
