// Clusters: mapa, the shared memory and mbarriers of other blocks, barrier.cluster; and mbarriers misused.
#include <initializer_list>

#include "doctest.h"
#include "ptx_device.h"

using namespace ptx_test;

namespace {

struct ClusterDevice : Device {
  explicit ClusterDevice(uint32_t blocks, const Options& with = {}) : Device(with) {
    shape.grid = {blocks};
    shape.cluster = {blocks};
  }
};

const std::string kRegisters =
    ".reg .u32 %r<8>; .reg .u64 %d<4>; .reg .pred %first, %q; setp.eq.u32 %first, %t, 0; mov.u32 %r0, "
    "%cluster_ctarank;\n";
const std::string kClusterBarrier = "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n";

}  // namespace

TEST_CASE("mapa and ld.shared::cluster: each block reads what its neighbour wrote") {
  const std::string text = kernel(kRegisters + R"(
    mad.lo.u32 %r1, %r0, 100, %t;
    shl.b32 %r2, %t, 2; add.u32 %r2, %r2, %smem;
    st.shared.u32 [%r2], %r1;
  )" + kClusterBarrier + R"(
    add.u32 %r3, %r0, 1; rem.u32 %r3, %r3, 3;
    mapa.shared::cluster.u32 %r4, %r2, %r3;
    ld.shared::cluster.u32 %r5, [%r4];
    mad.lo.u32 %r6, %r0, 32, %t; mul.wide.u32 %d1, %r6, 4; add.u64 %d1, %d1, %p0;
    st.global.u32 [%d1], %r5;
  )" + kClusterBarrier,
                                  1);
  for (const Options& options : schedules()) {
    ClusterDevice device(3, options);
    const uint64_t out = device.take_array<uint32_t>(96);
    device.run(text, std::vector<uint64_t>{out});
    const auto found = device.get<uint32_t>(out, 96);
    for (uint32_t block = 0; block < 3; ++block)
      for (uint32_t thread = 0; thread < 32; ++thread)
        CHECK(found[32 * block + thread] == (block + 1) % 3 * 100 + thread);
  }
}

TEST_CASE("mapa on generic addresses and getctarank agree with it") {
  const std::string text = kernel(kRegisters + R"(
    .reg .u64 %g<4>;
    cvt.u64.u32 %g0, %smem; cvta.shared.u64 %g0, %g0;
    mapa.u64 %g1, %g0, 1;
    getctarank.u64 %r1, %g1;
    mapa.shared::cluster.u32 %r2, %smem, 1;
    cvta.to.shared.u64 %g2, %g1; cvt.u32.u64 %r3, %g2; xor.b32 %r3, %r3, %r2;
    st.global.u32 [%p0], %r1; st.global.u32 [%p0+4], %r3;
  )",
                                  1);
  ClusterDevice device(2);
  const uint64_t out = device.take_array<uint32_t>(2);
  device.run(text, std::vector<uint64_t>{out});
  CHECK(device.get<uint32_t>(out, 2) == std::vector<uint32_t>{1, 0});
}

TEST_CASE("a remote arrival ends the phase that the owner waits for") {
  // Block 1 arrives at block 0's mbarrier, block 0 waits for it.
  const std::string text = kernel(kRegisters + R"(
    @%first mbarrier.init.shared::cta.b64 [%smem], 32;
    fence.mbarrier_init.release.cluster;
  )" + kClusterBarrier + R"(
    setp.eq.u32 %q, %r0, 0;
    @%q bra WAIT;
    mapa.shared::cluster.u32 %r1, %smem, 0;
    mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r1];
    bra DONE;
  WAIT:
    mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q, [%smem], 0;
    @!%q bra WAIT;
    st.global.u32 [%p0], %t;
  DONE:
  )" + kClusterBarrier,
                                  1);
  for (const Options& options : schedules()) {
    ClusterDevice device(2, options);
    const uint64_t out = device.take_array<uint32_t>(1);
    device.run(text, std::vector<uint64_t>{out});
    CHECK(device.is_defined(out, 4));
  }
}

TEST_CASE("access to a block that has exited, and to one that is not there") {
  // Block 1 ends at once; block 0 waits long and then reads it.
  const std::string exited = kernel(kRegisters + R"(
    setp.ne.u32 %q, %r0, 0;
    @%q st.shared.u32 [%smem], %t;
    @%q ret;
    mov.u32 %r3, 0;
  LOOP:
    nanosleep.u32 100;
    add.u32 %r3, %r3, 1; setp.lt.u32 %q, %r3, 200; @%q bra LOOP;
    mapa.shared::cluster.u32 %r4, %smem, 1;
    ld.shared::cluster.u32 %r5, [%r4];
    st.global.u32 [%p0], %r5;
  )",
                                    1);
  ClusterDevice device(2);
  const std::vector<uint64_t> out = {device.take_array<uint32_t>(1)};
  CHECK(contains(device.fault(exited, out), "has exited"));
  const std::string absent =
      kernel(kRegisters + "mapa.shared::cluster.u32 %r4, %smem, 2; st.global.u32 [%p0], %r4;\n", 1);
  CHECK(contains(device.fault(absent, out), "no block of rank 2"));
}

TEST_CASE("barrier.cluster: every thread of every block, but for those that have exited; arrive and wait alternate") {
  // Lane 31 of block 1 leaves early. Then arrive, work, wait.
  const std::string leaves = kernel(kRegisters + R"(
    mad.lo.u32 %r1, %r0, 32, %t; setp.eq.u32 %q, %r1, 63;
    @%q ret;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    st.global.u32 [%p0], %r0;
  )",
                                    1);
  for (const Options& options : schedules()) {
    ClusterDevice device(2, options);
    const uint64_t out = device.take_array<uint32_t>(1);
    CHECK(device.fault(leaves, std::vector<uint64_t>{out}) == "");
    CHECK(device.is_defined(out, 4));
  }
  ClusterDevice device(2);
  const std::vector<uint64_t> none;
  CHECK(contains(device.fault(kernel("barrier.cluster.wait;\n", 0), none), "without barrier.cluster.arrive"));
  CHECK(contains(device.fault(kernel("barrier.cluster.arrive;\nbarrier.cluster.arrive;\n", 0), none), "second time"));
}

TEST_CASE("mbarriers: misuse is reported with the count") {
  Device device;
  const std::vector<uint64_t> none;
  const std::string init = kRegisters + "@%first mbarrier.init.shared::cta.b64 [%smem], 2;\nbar.sync 0;\n";
  auto fault = [&](const std::string& body) { return device.fault(kernel(body, 0), none); };
  CHECK(contains(fault(kRegisters + "mbarrier.arrive.shared::cta.b64 _, [%smem];\n"), "no initialised mbarrier"));
  CHECK(contains(fault(init + "@%first mbarrier.arrive.shared::cta.b64 _, [%smem], 3;\n"), "more arrivals"));
  CHECK(
      contains(fault(init + "@%first mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%smem], 1048576;\n"), "tx-count"));
  CHECK(contains(fault(init + "@%first mbarrier.inval.shared::cta.b64 [%smem];\nbar.sync 0;\n"
                              "mbarrier.test_wait.parity.shared::cta.b64 %q, [%smem], 0;\n"),
                 "no initialised mbarrier"));
  CHECK(contains(fault(init + "LOOP:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [%smem], 0;\n@!%q bra LOOP;\n"),
                 "deadlock"));
  CHECK(contains(fault(init + "add.u32 %r1, %smem, 16777216;\nmbarrier.arrive.shared::cta.b64 _, [%r1];\n"),
                 ".shared::cta"));
}

TEST_CASE("mbarrier states: an arrival's state, test_wait and pending_count") {
  const std::string text = kernel(kRegisters + R"(
    @!%first bra DONE;
    mbarrier.init.shared::cta.b64 [%smem], 2;
    mbarrier.arrive.shared::cta.b64 %d1, [%smem];
    mbarrier.pending_count.b64 %r1, %d1;
    mbarrier.test_wait.shared::cta.b64 %q, [%smem], %d1;
    selp.u32 %r2, 1, 0, %q;
    mbarrier.arrive.shared::cta.b64 _, [%smem];
  WAIT:
    mbarrier.try_wait.shared::cta.b64 %q, [%smem], %d1;
    @!%q bra WAIT;
    st.global.u32 [%p0], %r1; st.global.u32 [%p0+4], %r2;
  DONE:
  )",
                                  1);
  Device device;
  const uint64_t out = device.take_array<uint32_t>(2);
  device.run(text, std::vector<uint64_t>{out});
  CHECK(device.get<uint32_t>(out, 2) == std::vector<uint32_t>{2, 0});
}
