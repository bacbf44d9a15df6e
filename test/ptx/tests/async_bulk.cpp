// Bulk copies, linear and of tensor boxes: bytes, mbarriers, groups, multicast, and what is reported when misused.
#include <initializer_list>

#include "doctest.h"
#include "ptx_device.h"

using namespace ptx_test;

namespace {

std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i + 1);
  return values;
}

// Thread 0 makes an mbarrier at %smem and, once `load` has run, everyone waits for it.
const std::string kMakeBarrier = R"(
  .reg .u32 %r<16>; .reg .u64 %d<8>; .reg .f32 %f<4>; .reg .pred %first, %q;
  setp.eq.u32 %first, %t, 0;
  @%first mbarrier.init.shared::cta.b64 [%smem], 1;
  bar.sync 0;
  @!%first bra WAIT;
)";
const std::string kWaitBarrier = R"(
WAIT:
  mbarrier.try_wait.parity.shared::cta.b64 %q, [%smem], 0;
  @!%q bra WAIT;
)";
// Thread t writes the t-th float at %smem + 1024 to out[t].
const std::string kWriteOut = R"(
  mul.wide.u32 %d1, %t, 4; shl.b32 %r1, %t, 2; add.u32 %r1, %r1, %smem;
  ld.shared.f32 %f0, [%r1+1024];
  add.u64 %d1, %p1, %d1;
  st.global.f32 [%d1], %f0;
)";
const std::string kLoad =
    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem], 128;\n"
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem+1024], [%p0], 128, [%smem];\n";

// A float tensor of dimensions (columns, rows) with a box.
TensorMap make_map(uint64_t address, uint32_t columns, uint32_t rows, uint16_t box_columns, uint16_t box_rows,
                   TensorSwizzle swizzle = TensorSwizzle::none) {
  TensorMap map{};
  map.magic = kTensorMapMagic;
  map.address = address;
  map.rank = 2;
  map.element = TensorElement::f32;
  map.swizzle = swizzle;
  for (int i = 0; i < kMaxTensorRank; ++i) map.dimensions[i] = map.box[i] = map.element_strides[i] = 1;
  map.dimensions[0] = columns;
  map.dimensions[1] = rows;
  map.strides[0] = (columns * 4 + 15) / 16 * 16;
  map.box[0] = box_columns;
  map.box[1] = box_rows;
  return map;
}

// A kernel whose first parameter is a tensor map; then 64-bit ones from %p0 on.
std::string tensor_kernel(const std::string& body, int parameters) {
  std::string text = kernel(".reg .u64 %map;\nmov.u64 %map, map;\ncvta.param.u64 %map, %map;\n" + body, parameters);
  const std::string from = "entry k(";
  return text.replace(text.find(from), from.size(), from + ".param .align 64 .b8 map[128], ");
}
std::vector<uint8_t> tensor_parameters(const TensorMap& map, const std::vector<uint64_t>& others) {
  std::vector<uint8_t> bytes(sizeof map + others.size() * 8);
  std::memcpy(bytes.data(), &map, sizeof map);
  std::memcpy(bytes.data() + sizeof map, others.data(), others.size() * 8);
  return bytes;
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

TEST_CASE("cp.async.bulk: a load counts its bytes on the mbarrier, and they are there when the phase ends") {
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    const uint64_t out = device.take_array<float>(32);
    device.run(kernel(kMakeBarrier + kLoad + kWaitBarrier + kWriteOut, 2),
               std::vector<uint64_t>{device.put(counting(32)), out});
    CHECK(device.get<float>(out, 32) == counting(32));
    CHECK(device.is_defined(out, 128));
  }
}

TEST_CASE("cp.async.bulk: bytes may come before they are expected") {
  const std::string late =
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem+1024], [%p0], 128, [%smem];\n"
      "nanosleep.u32 100;\n"
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem], 128;\n";
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    const uint64_t out = device.take_array<float>(32);
    device.run(kernel(kMakeBarrier + late + kWaitBarrier + kWriteOut, 2),
               std::vector<uint64_t>{device.put(counting(32)), out});
    CHECK(device.get<float>(out, 32) == counting(32));
  }
}

TEST_CASE("cp.async.bulk from shared to shared memory counts its bytes as well") {
  const std::string copies = R"(
  .reg .b32 %at; .reg .f32 %value;
  shl.b32 %at, %t, 2; add.u32 %at, %at, %smem;
  cvt.rn.f32.u32 %value, %t;
  st.shared.f32 [%at+2048], %value;
  fence.proxy.async;
)" + kMakeBarrier + "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem], 128;\n" +
                             "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%smem+1024], "
                             "[%smem+2048], 128, [%smem];\n" +
                             kWaitBarrier + kWriteOut;
  std::vector<float> expected(32);
  for (size_t i = 0; i < 32; ++i) expected[i] = static_cast<float>(i);
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    const uint64_t out = device.take_array<float>(32);
    device.run(kernel(copies, 2), std::vector<uint64_t>{0, out});
    CHECK(device.get<float>(out, 32) == expected);
  }
}

TEST_CASE("mbarrier.expect_tx and complete_tx hold a phase open and let it end; inval ends the mbarrier") {
  const std::string steps = R"(
  .reg .pred %early, %done; .reg .b64 %state; .reg .b32 %seen;
  setp.ne.u32 %done, %t, 0;
  @%done exit;
  mbarrier.init.shared::cta.b64 [%smem], 1;
  mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%smem], 64;
  mbarrier.arrive.shared::cta.b64 %state, [%smem];
  mbarrier.test_wait.shared::cta.b64 %early, [%smem], %state;
  mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%smem], 64;
  mbarrier.test_wait.shared::cta.b64 %done, [%smem], %state;
  selp.b32 %seen, 2, 0, %early;
  @%done add.u32 %seen, %seen, 1;
  st.global.u32 [%p0], %seen;
  mbarrier.inval.shared::cta.b64 [%smem];
)";
  Device device;
  const uint64_t out = device.take_array<uint32_t>(1);
  device.run(kernel(steps, 1), std::vector<uint64_t>{out});
  CHECK(device.get<uint32_t>(out, 1)[0] == 1);
  const std::string after = "mbarrier.arrive.shared::cta.b64 %state, [%smem];\n";
  CHECK(contains(device.fault(kernel(steps + after, 1), std::vector<uint64_t>{out}), "mbarrier"));
}

TEST_CASE("cp.async.bulk: without the wait the destination is undefined; too few bytes are a deadlock") {
  Device device(last_moment());
  const uint64_t in = device.put(counting(32)), out = device.take_array<float>(32);
  device.run(kernel(kMakeBarrier + kLoad + "bra LOOK;\n" + kWaitBarrier + "LOOK:\n" + kWriteOut + R"(
    AGAIN:
      mbarrier.try_wait.parity.shared::cta.b64 %q, [%smem], 0;
      @!%q bra AGAIN;
    )",
                    2),
             std::vector<uint64_t>{in, out});
  CHECK_FALSE(device.is_defined(out, 4));
  const std::string fault =
      device.fault(kernel(kMakeBarrier + with(kLoad, "[%smem], 128;", "[%smem], 144;") + kWaitBarrier + kWriteOut, 2),
                   std::vector<uint64_t>{in, out});
  CHECK(contains(fault, "deadlock"));
  CHECK(contains(fault, "mbarrier.try_wait"));
}

TEST_CASE("cp.async.bulk: misuse is reported") {
  Device device(last_moment());
  const uint64_t in = device.put(counting(32)), out = device.take_array<float>(32);
  auto fault = [&](const std::string& load) {
    return device.fault(kernel(kMakeBarrier + load + kWaitBarrier + kWriteOut, 2), std::vector<uint64_t>{in, out});
  };
  CHECK(contains(fault(with(kLoad, "[%p0], 128", "[%p0+16], 128")), "out of bounds"));
  CHECK(contains(fault(with(kLoad, "[%p0], 128", "[%p0], 120")), "multiple of 16"));
  CHECK(contains(fault(with(kLoad, "[%smem+1024]", "[%smem+1028]")), "aligned"));
  CHECK(contains(fault(with(kLoad, "128, [%smem]", "128, [%smem+8]")), "no initialised mbarrier"));
  CHECK(contains(fault(kLoad + "mov.f32 %f1, 0f00000000; st.global.f32 [%p0+64], %f1;\n"), "was changed"));
  CHECK(fault(kLoad) == "");
}

namespace {

// Every thread writes a float to shared memory; thread 0 stores the 128 bytes to p0.
const std::string kStore = R"(
  .reg .u32 %r<4>; .reg .f32 %f<4>; .reg .pred %first;
  setp.eq.u32 %first, %t, 0;
  shl.b32 %r1, %t, 2; add.u32 %r1, %r1, %smem;
  cvt.rn.f32.u32 %f0, %t;
  st.shared.f32 [%r1], %f0;
  fence.proxy.async.shared::cta;
  bar.sync 0;
  @!%first bra DONE;
  cp.async.bulk.global.shared::cta.bulk_group [%p0], [%smem], 128;
  cp.async.bulk.commit_group;
)";
const std::string kOverwrite = "mov.f32 %f1, 0fBF800000; st.shared.f32 [%smem+8], %f1;\n";

std::vector<float> thread_numbers() {
  std::vector<float> values(32);
  for (int i = 0; i < 32; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
  return values;
}

}  // namespace

TEST_CASE("cp.async.bulk: a store; .read frees the source, the other wait says that it has arrived") {
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    const uint64_t out = device.take_array<float>(32);
    device.run(kernel(kStore + "cp.async.bulk.wait_group.read 0;\n" + kOverwrite + "DONE:\n", 1),
               std::vector<uint64_t>{out});
    CHECK(device.get<float>(out, 32) == thread_numbers());
    const std::string copied =
        "cp.async.bulk.wait_group 0;\n ld.global.f32 %f2, [%p0+4]; st.global.f32 [%p1], %f2;\nDONE:\n";
    const uint64_t copy = device.take_array<float>(1);
    device.run(kernel(kStore + copied, 2), std::vector<uint64_t>{out, copy});
    CHECK(device.get<float>(copy, 1)[0] == 1);
    CHECK(device.is_defined(copy, 4));
  }
}

TEST_CASE("cp.async.bulk: a source that changes before it is read, and a block that ends before") {
  Device device(last_moment());
  const std::vector<uint64_t> out = {device.take_array<float>(32)};
  CHECK(contains(device.fault(kernel(kStore + kOverwrite + "cp.async.bulk.wait_group.read 0;\nDONE:\n", 1), out),
                 "source of a bulk copy was changed"));
  CHECK(contains(device.fault(kernel(kStore + "DONE:\n", 1), out), "exited before this bulk copy"));
}

TEST_CASE("cp.reduce.async.bulk adds into global memory") {
  Device device;
  const uint64_t out = device.put(counting(32));
  const std::string reduce = with(kStore, "cp.async.bulk.global.shared::cta.bulk_group [",
                                  "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [");
  device.run(kernel(reduce + "cp.async.bulk.wait_group 0;\nDONE:\n", 1), std::vector<uint64_t>{out});
  const auto sums = device.get<float>(out, 32);
  for (size_t i = 0; i < 32; ++i) CHECK(sums[i] == static_cast<float>(2 * i + 1));
}

namespace {

const std::string kLoadBox =
    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem], 1024;\n"
    "cvt.u32.u64 %r2, %p2; cvt.u32.u64 %r3, %p3;\n"
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%smem+1024], [%map, {%r2, %r3}], "
    "[%smem];\n";
// Thread t writes floats t, t + 32, … of the box's 256 to out.
const std::string kWriteBox = R"(
  mov.u32 %r4, %t;
COPY:
  shl.b32 %r5, %r4, 2; add.u32 %r6, %r5, %smem; cvt.u64.u32 %d1, %r5; add.u64 %d1, %d1, %p1;
  ld.shared.f32 %f0, [%r6+1024];
  st.global.f32 [%d1], %f0;
  add.u32 %r4, %r4, 32; setp.lt.u32 %q, %r4, 256; @%q bra COPY;
)";

}  // namespace

TEST_CASE("cp.async.bulk.tensor: boxes with zeros out of bounds, in every swizzle") {
  constexpr uint32_t kColumns = 50, kRows = 20, kPitch = 52;
  for (TensorSwizzle swizzle :
       {TensorSwizzle::none, TensorSwizzle::bytes32, TensorSwizzle::bytes64, TensorSwizzle::bytes128}) {
    const uint16_t columns = swizzle == TensorSwizzle::none ? 32 : static_cast<uint16_t>(swizzle_span(swizzle) / 4);
    const uint16_t rows = static_cast<uint16_t>(256 / columns);
    for (auto [x, y] : {std::pair{0, 0}, std::pair{40, 15}, std::pair{-3, -2}}) {
      Device device;
      const auto values = counting(kPitch * kRows);
      const uint64_t in = device.put(values), out = device.take_array<float>(256);
      device.run(tensor_kernel(kMakeBarrier + kLoadBox + kWaitBarrier + kWriteBox, 4),
                 tensor_parameters(make_map(in, kColumns, kRows, columns, rows, swizzle),
                                   {0, out, static_cast<uint64_t>(x), static_cast<uint64_t>(y)}));
      const auto found = device.get<float>(out, 256);
      CHECK(device.is_defined(out, 1024));
      bool same = true;
      for (uint32_t i = 0; i < 256; ++i) {
        // The box lies at 0x800: bits 7 … 9 of the address are those of the offset.
        const uint32_t chunk = i / 4, line = chunk / 8, mask = static_cast<uint32_t>(swizzle_span(swizzle) / 16);
        const uint32_t from = mask ? (chunk ^ (line & (mask - 1))) * 4 + i % 4 : i;
        const int row = y + static_cast<int>(from / columns), column = x + static_cast<int>(from % columns);
        const bool inside =
            row >= 0 && row < static_cast<int>(kRows) && column >= 0 && column < static_cast<int>(kColumns);
        same =
            same && found[i] == (inside ? values[static_cast<size_t>(row) * kPitch + static_cast<size_t>(column)] : 0);
      }
      CHECK(same);
    }
  }
}

TEST_CASE("cp.async.bulk.tensor: a store leaves what is out of bounds alone, a reduction adds") {
  const std::string body = R"(
    .reg .u32 %r<8>; .reg .f32 %f<2>; .reg .pred %first, %q;
    setp.eq.u32 %first, %t, 0;
    mov.u32 %r4, %t;
  FILL:
    shl.b32 %r5, %r4, 2; add.u32 %r6, %r5, %smem; cvt.rn.f32.u32 %f0, %r4; st.shared.f32 [%r6], %f0;
    add.u32 %r4, %r4, 32; setp.lt.u32 %q, %r4, 256; @%q bra FILL;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @!%first bra DONE;
    STORE [%map, {28, -2}], [%smem];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
  DONE:
  )";
  for (bool adds : {false, true}) {
    Device device;
    constexpr uint32_t kColumns = 36, kRows = 10;
    const auto before = counting(kColumns * kRows);
    const uint64_t tensor = device.put(before);
    const std::string instruction = adds ? "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group"
                                         : "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group";
    device.run(tensor_kernel(with(body, "STORE", instruction), 1),
               tensor_parameters(make_map(tensor, kColumns, kRows, 32, 8), {0}));
    const auto after = device.get<float>(tensor, kColumns * kRows);
    for (uint32_t row = 0; row < kRows; ++row)
      for (uint32_t column = 0; column < kColumns; ++column) {
        const bool reached = column >= 28 && row < 6;
        const auto old = before[row * kColumns + column];
        const auto value = static_cast<float>((row + 2) * 32 + column - 28);
        CHECK(after[row * kColumns + column] == (reached ? (adds ? old : 0) + value : old));
      }
  }
}

TEST_CASE("cp.async.bulk.tensor: maps that nobody encoded, of another rank, and tensors beyond their memory") {
  Device device;
  const uint64_t in = device.put(counting(256)), out = device.take_array<float>(256);
  TensorMap map = make_map(in, 32, 8, 32, 8);
  auto fault = [&](const TensorMap& one, const std::string& load) {
    return device.fault(tensor_kernel(kMakeBarrier + load + kWaitBarrier + kWriteBox, 4),
                        tensor_parameters(one, {0, out, 0, 0}));
  };
  CHECK(fault(map, kLoadBox) == "");
  TensorMap never{};
  CHECK(contains(fault(never, kLoadBox), "never encoded"));
  CHECK(contains(fault(map, with(with(kLoadBox, "2d", "3d"), "{%r2, %r3}", "{%r2, %r3, %r3}")), "dimensions"));
  CHECK(contains(fault(make_map(in, 32, 9, 32, 8), with(kLoadBox, "%p3;", "%p3; add.u32 %r3, %r3, 1;")),
                 "out of bounds"));
}

TEST_CASE("multicast: every block of the mask gets the box and the bytes on its own mbarrier") {
  // Block 0 loads for the blocks of the mask; all blocks of the cluster write out what they got.
  const std::string body = R"(
    .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .f32 %f<2>; .reg .pred %first, %leader, %q;
    setp.eq.u32 %first, %t, 0;
    mov.u32 %r7, %cluster_ctarank;
    @%first mbarrier.init.shared::cta.b64 [%smem], 1;
    fence.mbarrier_init.release.cluster;
    barrier.cluster.arrive.relaxed.aligned;
    barrier.cluster.wait.acquire.aligned;
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%smem], 128;
    setp.eq.and.u32 %leader, %r7, 0, %first;
    mov.u16 %mask, 3;
    @%leader cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%smem+1024], [%p0], 128, [%smem], %mask;
  WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %q, [%smem], 0;
    @!%q bra WAIT;
    shl.b32 %r1, %t, 2; add.u32 %r2, %r1, %smem; ld.shared.f32 %f0, [%r2+1024];
    shl.b32 %r3, %r7, 7; add.u32 %r3, %r3, %r1; cvt.u64.u32 %d1, %r3; add.u64 %d1, %d1, %p1;
    st.global.f32 [%d1], %f0;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
  )";
  const std::string text = kernel(".reg .u16 %mask;\n" + body, 2);
  for (const Options& options : schedules()) {
    Device device;
    device.options = options;
    device.shape.grid = {2};
    device.shape.cluster = {2};
    const uint64_t out = device.take_array<float>(64);
    device.run(text, std::vector<uint64_t>{device.put(counting(32)), out});
    CHECK(device.is_defined(out, 256));
    const auto found = device.get<float>(out, 64);
    CHECK(std::vector<float>(found.begin(), found.begin() + 32) == counting(32));
    CHECK(std::vector<float>(found.begin() + 32, found.end()) == counting(32));
  }
}
