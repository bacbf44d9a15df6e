// wgmma as instructions: four warps, registers and shared memory on loan, and what is reported when the rules are
// broken.
#include <initializer_list>

#include "doctest.h"
#include "machine/tensor/element.h"
#include "ptx_device.h"

using namespace ptx_test;

namespace {

// A (64 × 16) and B (16 × 8) in bf16, in 8 × 8 blocks of 128 bytes without swizzle: k's halves 1024 and 128 bytes
// apart.
constexpr uint32_t kStart = 0x400, kBytesA = 2048, kBytesB = 256;
constexpr uint64_t kDescriptorA = kStart / 16 | uint64_t{1024 / 16} << 16 | uint64_t{128 / 16} << 32;
constexpr uint64_t kDescriptorB = (kStart + kBytesA) / 16 | uint64_t{128 / 16} << 16 | uint64_t{128 / 16} << 32;

float a_at(uint32_t row, uint32_t k) { return static_cast<float>(row % 9) - static_cast<float>(k % 5); }
float b_at(uint32_t k, uint32_t column) { return static_cast<float>(3 * column + k % 7) - 8; }
uint16_t bf16(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }

std::vector<uint16_t> image_a() {
  std::vector<uint16_t> image(kBytesA / 2);
  for (uint32_t row = 0; row < 64; ++row)
    for (uint32_t k = 0; k < 16; ++k) image[row / 8 * 64 + k / 8 * 512 + row % 8 * 8 + k % 8] = bf16(a_at(row, k));
  return image;
}
std::vector<uint16_t> image_b() {
  std::vector<uint16_t> image(kBytesB / 2);
  for (uint32_t column = 0; column < 8; ++column)
    for (uint32_t k = 0; k < 16; ++k) image[k / 8 * 64 + column * 8 + k % 8] = bf16(b_at(k, column));
  return image;
}
float product_at(uint32_t row, uint32_t column) {
  float sum = 0;
  for (uint32_t k = 0; k < 16; ++k) sum += a_at(row, k) * b_at(k, column);
  return sum;
}

// Parameters: A, B, out, descriptor of A, descriptor of B. Register q of thread t goes to out[128 q + t].
const std::string kLoad = R"(
  .reg .u32 %r<8>; .reg .u64 %d<8>; .reg .b32 %v<4>, %a<4>; .reg .f32 %c<4>; .reg .pred %q;
  shl.b32 %r1, %t, 4; add.u32 %r2, %smem, %r1; cvt.u64.u32 %d1, %r1; add.u64 %d2, %p0, %d1; add.u64 %d3, %p1, %d1;
  ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%d2];
  st.shared.v4.b32 [%r2], {%v0, %v1, %v2, %v3};
  setp.lt.u32 %q, %t, 16;
  @!%q bra LOADED;
  ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%d3];
  st.shared.v4.b32 [%r2+2048], {%v0, %v1, %v2, %v3};
LOADED:
  fence.proxy.async.shared::cta;
  bar.sync 0;
  mul.wide.u32 %d4, %t, 4; add.u64 %d4, %p2, %d4;
  mov.f32 %c0, 0f3F800000; mov.f32 %c1, %c0; mov.f32 %c2, %c0; mov.f32 %c3, %c0;
)";
const std::string kFence = "wgmma.fence.sync.aligned;\n";
const std::string kProduct =
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%c0, %c1, %c2, %c3}, %p3, %p4, 1, 1, 1, 0, 0;\n";
const std::string kCommit = "wgmma.commit_group.sync.aligned;\n";
const std::string kWait = "wgmma.wait_group.sync.aligned 0;\n";
const std::string kStore =
    "st.global.f32 [%d4], %c0; st.global.f32 [%d4+512], %c1; st.global.f32 [%d4+1024], %c2; "
    "st.global.f32 [%d4+1536], %c3;\n";

struct Run {
  explicit Run(const Options& options = {}) {
    device.options = options;
    device.shape.block = {128};
    parameters = {device.put(image_a()), device.put(image_b()), device.take_array<float>(512), kDescriptorA,
                  kDescriptorB};
  }
  std::vector<float> values(const std::string& body) {
    device.run(kernel(body, 5), parameters);
    return device.get<float>(parameters[2], 512);
  }
  std::string fault(const std::string& body) { return device.fault(kernel(body, 5), parameters); }
  Device device;
  std::vector<uint64_t> parameters;
};

uint32_t row_of(uint32_t thread, uint32_t q) { return thread / 32 * 16 + thread % 32 / 4 + 8 * (q / 2); }
uint32_t column_of(uint32_t thread, uint32_t q) { return thread % 4 * 2 + q % 2; }

// [512] scale · AB + start
std::vector<float> expected(float scale, float start) {
  std::vector<float> values(512);
  for (uint32_t q = 0; q < 4; ++q)
    for (uint32_t thread = 0; thread < 128; ++thread)
      values[128 * q + thread] = scale * product_at(row_of(thread, q), column_of(thread, q)) + start;
  return values;
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

Options last_moment() {
  Options options;
  options.completion = Completion::last_moment;
  return options;
}

}  // namespace

TEST_CASE("wgmma: D = AB + D from shared memory in every schedule, defined once it is waited for") {
  for (const Options& options : schedules()) {
    Run run(options);
    CHECK(run.values(kLoad + kFence + kProduct + kCommit + kWait + kStore) == expected(1, 1));
    CHECK(run.device.is_defined(run.parameters[2], 2048));
  }
}

TEST_CASE("wgmma: scale-d 0 forgets D, imm-scale negates, products chain without waiting") {
  CHECK(Run().values(kLoad + kFence + with(kProduct, "%p4, 1,", "%p4, 0,") + kCommit + kWait + kStore) ==
        expected(1, 0));
  CHECK(Run().values(kLoad + kFence + with(kProduct, "%p4, 1, 1, 1", "%p4, 1, -1, 1") + kCommit + kWait + kStore) ==
        expected(-1, 1));
  CHECK(Run().values(kLoad + kFence + with(kProduct, "%p4, 1, 1, 1", "%p4, 1, -1, -1") + kCommit + kWait + kStore) ==
        expected(1, 1));
  for (const Options& options : schedules())
    CHECK(Run(options).values(kLoad + kFence + kProduct + kProduct + kCommit + kProduct + kCommit +
                              "wgmma.wait_group.sync.aligned 1;\n" + kWait + kStore) == expected(3, 1));
}

namespace {

// A's fragment from shared memory by ldmatrix: warp w's rows, k's halves 1024 bytes apart.
const std::string kFragments = R"(
  and.b32 %r3, %t, 15; shr.u32 %r4, %t, 5; shl.b32 %r4, %r4, 4; add.u32 %r3, %r3, %r4; shl.b32 %r3, %r3, 4;
  and.b32 %r5, %t, 16; shl.b32 %r5, %r5, 6; add.u32 %r3, %r3, %r5; add.u32 %r3, %r3, %smem;
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%a0, %a1, %a2, %a3}, [%r3];
)";
const std::string kRegisterProduct =
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, %p4, 1, 1, 1, "
    "0;\n";

}  // namespace

TEST_CASE("wgmma: A from registers") {
  for (const Options& options : schedules())
    CHECK(Run(options).values(kLoad + kFragments + kFence + kRegisterProduct + kCommit + kWait + kStore) ==
          expected(1, 1));
}

TEST_CASE("wgmma: undefined elements of A and B reach their rows and columns") {
  for (int operand : {0, 1}) {
    Run run;
    // A: row 8·2 + 3, k 1. B: column 3, k 1.
    run.device.memory.mark_undefined(run.parameters[operand] + (operand == 0 ? 2 * 128 : 0) + 3 * 16 + 2, 2);
    run.values(kLoad + kFence + kProduct + kCommit + kWait + kStore);
    for (uint32_t q = 0; q < 4; ++q)
      for (uint32_t thread = 0; thread < 128; ++thread) {
        const bool reached = operand == 0 ? row_of(thread, q) == 19 : column_of(thread, q) == 3;
        CHECK(run.device.is_defined(run.parameters[2] + 4 * (128 * q + thread), 4) == !reached);
      }
  }
}

TEST_CASE("wgmma without wgmma.fence after its registers were written is reported with the write") {
  CHECK(contains(Run().fault(kLoad + kProduct + kCommit + kWait + kStore), "no wgmma.fence"));
  CHECK(contains(Run().fault(kLoad + kFence + kFragments + kRegisterProduct + kCommit + kWait + kStore), "ldmatrix"));
  // In a loop: written at its end, used at its beginning.
  const std::string loop = kLoad + kFence + "mov.u32 %r6, 0;\nLOOP:\n" + kProduct + kCommit + kWait +
                           "mul.f32 %c0, %c0, %c0;\nadd.u32 %r6, %r6, 1; setp.lt.u32 %q, %r6, 3; @%q bra LOOP;\n" +
                           kStore;
  CHECK(contains(Run().fault(loop), "mul.f32"));
  const std::string right = with(loop, "LOOP:\n", "LOOP:\n" + kFence);
  CHECK(Run().fault(right) == "");
}

TEST_CASE("wgmma: accumulators that are read before the wait, or without commit, are reported in every schedule") {
  for (const Options& options : schedules())
    for (const std::string& end : {kCommit, kWait, kCommit + "wgmma.wait_group.sync.aligned 1;\n"})
      CHECK(contains(Run(options).fault(kLoad + kFence + kProduct + end + kStore), "touched before wgmma.wait_group"));
}

TEST_CASE("wgmma: registers that are written while they are lent are reported") {
  const std::string accumulator =
      Run().fault(kLoad + kFence + kProduct + kCommit + "mov.f32 %c2, 0f00000000;\n" + kWait + kStore);
  CHECK(contains(accumulator, "accumulator"));
  const std::string operand = Run().fault(kLoad + kFragments + kFence + kRegisterProduct + kCommit +
                                          "mov.b32 %a1, 17;\n" + kWait + kStore + "st.global.b32 [%d4], %a1;\n");
  CHECK(contains(operand, "register of A"));
}

TEST_CASE("wgmma: warps that do not agree, and descriptors that reach out of shared memory") {
  const std::string different = "setp.ge.u32 %q, %t, 96; @%q add.u64 %p4, %p4, 1;\n";
  CHECK(contains(Run().fault(kLoad + different + kFence + kProduct + kCommit + kWait + kStore), "different wgmmas"));
  const std::string lanes = "setp.eq.u32 %q, %t, 5; @%q add.u64 %p4, %p4, 1;\n";
  CHECK(contains(Run().fault(kLoad + lanes + kFence + kProduct + kCommit + kWait + kStore), "differs between lanes"));
  Run run;
  run.parameters[3] = (kStart + 65536 - 1024) / 16 | (kDescriptorA & ~uint64_t{0x3fff});
  CHECK(contains(run.fault(kLoad + kFence + kProduct + kCommit + kWait + kStore), "descriptor of A"));
}

TEST_CASE("wgmma: a warp that stays away is a deadlock that names the wait") {
  const std::string away = "setp.ge.u32 %q, %t, 96; @%q bra DONE;\n";
  const std::string fault =
      Run(last_moment()).fault(kLoad + away + kFence + kProduct + kCommit + kWait + kStore + "DONE:\n");
  CHECK(contains(fault, "deadlock"));
  CHECK(contains(fault, "the other warps of the warpgroup"));
}

TEST_CASE("wgmma: a bulk copy over its operands is reported until somebody has waited for it") {
  const std::string overwrite = R"(
    setp.eq.u32 %q, %t, 0;
    @%q mbarrier.init.shared::cta.b64 [%smem+8192], 1;
    @%q mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem+8192], 128;
    @%q cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem+1920], [%p0], 128, [%smem+8192];
  )";
  const std::string settle = R"(
    bar.sync 0;
  AGAIN:
    mbarrier.try_wait.parity.shared::cta.b64 %q, [%smem+8192], 0;
    @!%q bra AGAIN;
  )";
  for (const Options& options : schedules()) {
    const std::string early =
        Run(options).fault(kLoad + kFence + kProduct + kCommit + overwrite + kWait + settle + kStore);
    CHECK(contains(early, "still read by `wgmma"));
    CHECK(Run(options).fault(kLoad + kFence + kProduct + kCommit + kWait + "bar.sync 0;\n" + overwrite + settle +
                             kStore) == "");
    // Right behind A.
    CHECK(Run(options).fault(kLoad + kFence + kProduct + kCommit + with(overwrite, "[%smem+1920]", "[%smem+4096]") +
                             kWait + settle + kStore) == "");
  }
}
