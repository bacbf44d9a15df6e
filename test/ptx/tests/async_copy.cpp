// cp.async: what arrives, when it may be looked at, and what must not happen meanwhile.
#include "doctest.h"
#include "ptx_device.h"

using namespace ptx_test;

namespace {

// Each thread copies 16 bytes of the `size` it is given; behind them zeros.
const char* const kCopy = R"(
  .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .b32 %v<4>;
  shl.b32 %r1, %t, 4;
  add.u32 %r2, %smem, %r1;
  cvt.u64.u32 %d1, %r1;
  add.u64 %d2, %p0, %d1;
  cvt.u32.u64 %r3, %p2;
  cp.async.cg.shared.global [%r2], [%d2], 16, %r3;
  cp.async.commit_group;
)";
const char* const kWriteBack = R"(
  ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%r2];
  add.u64 %d3, %p1, %d1;
  st.global.v4.b32 [%d3], {%v0, %v1, %v2, %v3};
)";

std::vector<uint32_t> counting(size_t count) {
  std::vector<uint32_t> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint32_t>(1000 + i);
  return values;
}

}  // namespace

TEST_CASE("cp.async copies, and fills with zeros behind the source size") {
  for (const Options& options : schedules())
    for (uint64_t size : {16, 8, 0}) {
      // The one waits for what is committed, the other for everything.
      const char* wait = size == 8 ? "cp.async.wait_all;" : "cp.async.wait_group 0;";
      const std::string text = kernel(std::string(kCopy) + wait + kWriteBack, 3);
      Device device;
      device.options = options;
      const auto values = counting(128);
      const uint64_t out = device.take_array<uint32_t>(128);
      // With size 0 the source may be anything.
      device.run(text, std::vector<uint64_t>{size ? device.put(values) : 64, out, size});
      const auto found = device.get<uint32_t>(out, 128);
      bool same = true;
      for (size_t i = 0; i < 128; ++i) same = same && found[i] == (i % 4 * 4 < size ? values[i] : 0);
      CHECK(same);
      CHECK(device.is_defined(out, 512));
    }
}

TEST_CASE("cp.async: undefined until it is waited for, unless it happens to be early") {
  const std::string text = kernel(std::string(kCopy) + kWriteBack, 3);
  Device device;
  device.options.completion = Completion::last_moment;
  const uint64_t out = device.take_array<uint32_t>(128);
  device.run(text, std::vector<uint64_t>{device.put(counting(128)), out, 16});
  CHECK_FALSE(device.is_defined(out, 4));
}

TEST_CASE("cp.async.wait_group N leaves the N newest groups pending") {
  // Three groups to three places; after wait_group 1 the first two are there.
  const std::string text = kernel(R"(
    .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .b32 %v<4>;
    shl.b32 %r1, %t, 2; add.u32 %r2, %smem, %r1; cvt.u64.u32 %d1, %r1; add.u64 %d2, %p0, %d1; add.u64 %d3, %p1, %d1;
    cp.async.ca.shared.global [%r2], [%d2], 4;
    cp.async.commit_group;
    cp.async.ca.shared.global [%r2+128], [%d2+128], 4;
    cp.async.commit_group;
    cp.async.ca.shared.global [%r2+256], [%d2+256], 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    ld.shared.b32 %v0, [%r2]; ld.shared.b32 %v1, [%r2+128]; ld.shared.b32 %v2, [%r2+256];
    st.global.b32 [%d3], %v0; st.global.b32 [%d3+128], %v1; st.global.b32 [%d3+256], %v2;
  )",
                                  2);
  Device device;
  device.options.completion = Completion::last_moment;
  const auto values = counting(96);
  const uint64_t out = device.take_array<uint32_t>(96);
  device.run(text, std::vector<uint64_t>{device.put(values), out});
  CHECK(device.is_defined(out, 256));
  CHECK_FALSE(device.is_defined(out + 256, 4));
  const auto found = device.get<uint32_t>(out, 64);
  CHECK(std::equal(found.begin(), found.end(), values.begin()));
}

TEST_CASE("cp.async: a source that changes before the wait, and one out of bounds") {
  Device device;
  device.options.completion = Completion::last_moment;
  const std::string changes =
      kernel(std::string(kCopy) + "st.global.u32 [%d2], %t;\ncp.async.wait_group 0;" + kWriteBack, 3);
  CHECK(contains(
      device.fault(changes, std::vector<uint64_t>{device.put(counting(128)), device.take_array<uint32_t>(128), 16}),
      "source of cp.async was changed"));
  const std::string right = kernel(std::string(kCopy) + "cp.async.wait_group 0;" + kWriteBack, 3);
  const std::string fault =
      device.fault(right, std::vector<uint64_t>{device.put(counting(120)), device.take_array<uint32_t>(128), 16});
  CHECK(contains(fault, "out of bounds"));
  CHECK(contains(fault, "thread (30,0,0)"));
}

TEST_CASE("cp.async.mbarrier.arrive comes after the copies, whose bytes the waiting thread then sees") {
  // Threads 0 … 31 copy, threads 32 … 63 wait on the mbarrier and read.
  const std::string text = kernel(R"(
    .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .b32 %v; .reg .pred %q<3>;
    setp.eq.u32 %q0, %t, 0;
    @%q0 mbarrier.init.shared::cta.b64 [%smem], 32;
    bar.sync 0;
    and.b32 %r0, %t, 31; shl.b32 %r1, %r0, 2; add.u32 %r2, %smem, %r1; cvt.u64.u32 %d1, %r1;
    setp.ge.u32 %q1, %t, 32;
    @%q1 bra WAIT;
    add.u64 %d2, %p0, %d1;
    cp.async.ca.shared.global [%r2+128], [%d2], 4;
    cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%smem];
    ret;
  WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %q2, [%smem], 0;
    @!%q2 bra WAIT;
    ld.shared.b32 %v, [%r2+128];
    add.u64 %d3, %p1, %d1;
    st.global.b32 [%d3], %v;
  )",
                                  2);
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    device.shape.block = {64};
    const auto values = counting(32);
    const uint64_t out = device.take_array<uint32_t>(32);
    device.run(text, std::vector<uint64_t>{device.put(values), out});
    CHECK(device.is_defined(out, 128));
    CHECK(device.get<uint32_t>(out, 32) == values);
  }
}
