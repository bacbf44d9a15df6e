// mma, ldmatrix, stmatrix and movmatrix as instructions: registers in, registers out, and what is undefined in them.
#include <initializer_list>

#include "doctest.h"
#include "machine/tensor/element.h"
#include "ptx_device.h"

using namespace ptx_test;

namespace {

// Operands as the fragments lie in registers: register r of lane l at [32 r + l].
const char* const kLoad = R"(
  .reg .u64 %d<8>; .reg .b32 %a<4>, %b<2>; .reg .f32 %c<4>;
  mul.wide.u32 %d0, %t, 4;
  add.u64 %d1, %p0, %d0; add.u64 %d2, %p1, %d0; add.u64 %d3, %p2, %d0; add.u64 %d4, %p3, %d0;
  ld.global.b32 %a0, [%d1]; ld.global.b32 %a1, [%d1+128]; ld.global.b32 %a2, [%d1+256]; ld.global.b32 %a3, [%d1+384];
  ld.global.b32 %b0, [%d2]; ld.global.b32 %b1, [%d2+128];
  ld.global.f32 %c0, [%d3]; ld.global.f32 %c1, [%d3+128]; ld.global.f32 %c2, [%d3+256]; ld.global.f32 %c3, [%d3+384];
)";
const char* const kStore = R"(
  st.global.f32 [%d4], %c0; st.global.f32 [%d4+128], %c1; st.global.f32 [%d4+256], %c2; st.global.f32 [%d4+384], %c3;
)";
const char* const kBf16 = R"(
  mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1},
    {%c0, %c1, %c2, %c3};
)";

uint16_t bf16(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }

// A[row][k] = row + 1 where k = row, B[k][column] = 8 k + column: D[row][column] = (row + 1)(8 row + column).
std::vector<uint32_t> diagonal_a() {
  std::vector<uint32_t> words(128);
  for (uint32_t r = 0; r < 4; ++r)
    for (uint32_t lane = 0; lane < 32; ++lane)
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t row = lane / 4 + 8 * (r % 2), k = lane % 4 * 2 + h + 8 * (r / 2);
        words[32 * r + lane] |= (row == k ? uint32_t{bf16(static_cast<float>(row + 1))} : 0) << (16 * h);
      }
  return words;
}
std::vector<uint32_t> counting_b() {
  std::vector<uint32_t> words(64);
  for (uint32_t r = 0; r < 2; ++r)
    for (uint32_t lane = 0; lane < 32; ++lane)
      for (uint32_t h = 0; h < 2; ++h)
        words[32 * r + lane] |= uint32_t{bf16(static_cast<float>(8 * (lane % 4 * 2 + h + 8 * r) + lane / 4))}
                                << (16 * h);
  return words;
}
uint32_t row_of(uint32_t lane, uint32_t q) { return lane / 4 + 8 * (q / 2); }
uint32_t column_of(uint32_t lane, uint32_t q) { return lane % 4 * 2 + q % 2; }

}  // namespace

TEST_CASE("mma m16n8k16: a diagonal A picks rows of B, C is added, FLOP are counted") {
  Device device;
  const uint64_t out = device.take_array<float>(128);
  const Result result = device.run(kernel(std::string(kLoad) + kBf16 + kStore, 4),
                                   std::vector<uint64_t>{device.put(diagonal_a()), device.put(counting_b()),
                                                         device.put(std::vector<float>(128, 0.5f)), out});
  const auto d = device.get<float>(out, 128);
  for (uint32_t q = 0; q < 4; ++q)
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto row = static_cast<float>(row_of(lane, q)), column = static_cast<float>(column_of(lane, q));
      CHECK(d[32 * q + lane] == (row + 1) * (8 * row + column) + 0.5f);
    }
  CHECK(device.is_defined(out, 512));
  CHECK(result.counters.tensor_flop == 2 * 16 * 8 * 16);
}

TEST_CASE("mma: an undefined element of A reaches its row, of B its column, of C itself") {
  struct Hole {
    int operand;  // 0 A, 1 B, 2 C
    uint32_t r, lane;
  };
  for (Hole hole : {Hole{0, 1, 9}, Hole{0, 2, 31}, Hole{1, 1, 14}, Hole{2, 3, 5}}) {
    Device device;
    uint64_t operands[3] = {device.put(diagonal_a()), device.put(counting_b()), device.put(std::vector<float>(128, 0))};
    device.memory.mark_undefined(operands[hole.operand] + 128 * hole.r + 4 * hole.lane, 4);
    const uint64_t out = device.take_array<float>(128);
    device.run(kernel(std::string(kLoad) + kBf16 + kStore, 4),
               std::vector<uint64_t>{operands[0], operands[1], operands[2], out});
    for (uint32_t q = 0; q < 4; ++q)
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const bool reached = hole.operand == 0   ? row_of(lane, q) == hole.lane / 4 + 8 * (hole.r % 2)
                             : hole.operand == 1 ? column_of(lane, q) == hole.lane / 4
                                                 : q == hole.r && lane == hole.lane;
        CHECK(device.is_defined(out + 128 * q + 4 * lane, 4) == !reached);
      }
  }
}

TEST_CASE("mma: f16 accumulators are rounded once, tf32 drops the low bits") {
  Device device;
  // D = 1·1 + … over k = 16, C = 2048: every sum of ones is exact in fp32, 2064 is a multiple of 2 in f16.
  const std::string half = kernel(std::string(kLoad) + R"(
    .reg .b32 %h<2>;
    mov.b32 %h0, 0x68006800; mov.b32 %h1, 0x68006800;
    mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%h0, %h1}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {%h0, %h1};
    st.global.b32 [%d4], %h0; st.global.b32 [%d4+128], %h1;
  )",
                                  4);
  const std::vector<uint32_t> ones(128, 0x3c003c00);
  const uint64_t out = device.take_array<uint32_t>(128);
  device.run(half, std::vector<uint64_t>{device.put(ones), device.put(ones), device.put(ones), out});
  CHECK(device.get<uint32_t>(out, 64) == std::vector<uint32_t>(64, float_to_f16(2064) * 0x10001u));

  const std::string tf32 = kernel(std::string(kLoad) + R"(
    mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1},
      {%c0, %c1, %c2, %c3};
  )" + kStore,
                                  4);
  const std::vector<uint32_t> nearly_two(128, 0x3fffffff), one(64, 0x3f800000);
  device.run(tf32, std::vector<uint64_t>{device.put(nearly_two), device.put(one),
                                         device.put(std::vector<float>(128, 0)), out});
  CHECK(device.get<float>(out, 128) == std::vector<float>(128, 8 * (2 - 0x1p-10f)));
}

TEST_CASE("mma in a branch that not all lanes take waits for the others, and never comes where they cannot") {
  Device device;
  const std::string text = kernel(std::string(kLoad) + R"(
    .reg .pred %q;
    setp.lt.u32 %q, %t, 7;
    @%q bra DONE;
  )" + kBf16 + "DONE:\n" + kStore,
                                  4);
  const uint64_t zeros = device.put(std::vector<uint32_t>(128, 0));
  CHECK(contains(device.fault(text, std::vector<uint64_t>{zeros, zeros, zeros, zeros}), "mma"));
}

TEST_CASE("ldmatrix and stmatrix: rows by address, fragments by the table, transposed and not, holes carried") {
  // Loads four matrices, stores them transposed elsewhere, and copies them out.
  const std::string text = kernel(R"(
    .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .b32 %v<4>, %m<4>;
    shl.b32 %r1, %t, 4; add.u32 %r2, %smem, %r1; cvt.u64.u32 %d1, %r1; add.u64 %d2, %p0, %d1; add.u64 %d3, %p1, %d1;
    ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%d2];
    st.shared.v4.b32 [%r2], {%v0, %v1, %v2, %v3};
    bar.sync 0;
    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%m0, %m1, %m2, %m3}, [%r2];
    stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%r2+512], {%m0, %m1, %m2, %m3};
    bar.sync 0;
    ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%r2+512];
    st.global.v4.b32 [%d3], {%v0, %v1, %v2, %v3};
  )",
                                  2);
  Device device;
  std::vector<uint16_t> matrices(256);
  for (uint16_t i = 0; i < 256; ++i) matrices[i] = static_cast<uint16_t>(3 * i + 1);
  const uint64_t in = device.put(matrices), out = device.take_array<uint16_t>(256);
  device.memory.mark_undefined(in + 2 * (64 + 8 * 3 + 5), 2);  // matrix 1, row 3, column 5
  device.run(text, std::vector<uint64_t>{in, out});
  const auto found = device.get<uint16_t>(out, 256);
  for (uint32_t m = 0; m < 4; ++m)
    for (uint32_t r = 0; r < 8; ++r)
      for (uint32_t c = 0; c < 8; ++c) {
        const bool hole = m == 1 && r == 5 && c == 3;
        CHECK(device.is_defined(out + 2 * (64 * m + 8 * r + c), 2) == !hole);
        if (!hole) CHECK(found[64 * m + 8 * r + c] == matrices[64 * m + 8 * c + r]);
      }
}

TEST_CASE("ldmatrix .x2.trans and movmatrix: the same transposition") {
  const std::string text = kernel(R"(
    .reg .u32 %r<8>; .reg .u64 %d<4>; .reg .b32 %v<4>, %m<4>;
    shl.b32 %r1, %t, 2; add.u32 %r2, %smem, %r1; cvt.u64.u32 %d1, %r1; add.u64 %d2, %p0, %d1; add.u64 %d3, %p1, %d1;
    ld.global.b32 %v0, [%d2]; ld.global.b32 %v1, [%d2+128];
    st.shared.b32 [%r2], %v0; st.shared.b32 [%r2+128], %v1;
    bar.sync 0;
    and.b32 %r3, %t, 15; shl.b32 %r3, %r3, 4; add.u32 %r3, %smem, %r3;
    ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%m0, %m1}, [%r3];
    ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%m2, %m3}, [%r3];
    movmatrix.sync.aligned.m8n8.trans.b16 %m1, %m1;
    xor.b32 %v3, %m1, %m3;
    st.global.b32 [%d3], %v3; st.global.b32 [%d3+128], %m2;
  )",
                                  2);
  Device device;
  std::vector<uint16_t> matrices(128);
  for (uint16_t i = 0; i < 128; ++i) matrices[i] = static_cast<uint16_t>(7 * i + 2);
  const uint64_t out = device.take_array<uint32_t>(64);
  device.run(text, std::vector<uint64_t>{device.put(matrices), out});
  const auto found = device.get<uint32_t>(out, 64);
  CHECK(std::vector<uint32_t>(found.begin(), found.begin() + 32) == std::vector<uint32_t>(32, 0));
  for (uint32_t lane = 0; lane < 32; ++lane)
    CHECK(found[32 + lane] ==
          matrices[lane % 4 * 16 + lane / 4] + (uint32_t{matrices[lane % 4 * 16 + 8 + lane / 4]} << 16));
}
