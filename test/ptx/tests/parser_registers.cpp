// What instructions read and write, and the rows that registers share.
#include <random>

#include "doctest.h"
#include "parser_text.h"
#include "parser_walk.h"
#include "ptx/program.h"

using namespace foretoken::ptx;

namespace {

struct Planned {
  Kernel kernel;
  ControlFlow flow;
  Allocation allocation;
  uint32_t slot(const std::string& name) const {
    for (size_t r = 0; r < kernel.function->registers.size(); ++r)
      if (kernel.function->registers[r].text() == name) return allocation.slot[r];
    FAIL("no register " << name);
    return 0;
  }
};

Planned plan(const std::string& body) {
  Planned planned{parse_kernel(body), {}, {}};
  planned.flow = control_flow(*planned.kernel.module, *planned.kernel.function);
  planned.allocation = allocate_registers(*planned.kernel.module, *planned.kernel.function, planned.flow);
  return planned;
}

// "%r1=w %r2=r %r3=rw", in the order of mention, the guard first.
std::string accesses_of(const std::string& instruction) {
  const Kernel kernel = parse_kernel(instruction);
  std::string text;
  for (const Access& access : register_accesses(*kernel.module, *kernel.function, kernel.at(0)))
    text += (text.empty() ? "" : " ") + kernel.function->registers[access.reg].text() + "=" + (access.read ? "r" : "") +
            (access.written ? "w" : "");
  return text;
}

}  // namespace

TEST_CASE("accesses: results are written, all else is read") {
  CHECK(accesses_of("add.s32 %r1, %r2, %r3;") == "%r1=w %r2=r %r3=r");
  CHECK(accesses_of("add.s32 %r1, %r1, 1;") == "%r1=rw");
  CHECK(accesses_of("@%p1 mov.b32 %r1, %r2;") == "%p1=r %r1=w %r2=r");
  CHECK(accesses_of("setp.lt.and.s32 %p1|%p2, %r1, %r2, !%p3;") == "%p1=w %p2=w %r1=r %r2=r %p3=r");
  CHECK(accesses_of("shfl.sync.idx.b32 %r1|%p1, %r2, %r3, 31, %r4;") == "%r1=w %p1=w %r2=r %r3=r %r4=r");
  CHECK(accesses_of("elect.sync _|%p1, %r1;") == "%p1=w %r1=r");
  CHECK(accesses_of("mov.b64 {%r1, _}, %d1;") == "%r1=w %d1=r");
  CHECK(accesses_of("mov.b64 %d1, {%r1, %r2};") == "%d1=w %r1=r %r2=r");
  CHECK(accesses_of("ld.global.v2.u32 {%r1, %r2}, [%d1+8];") == "%r1=w %r2=w %d1=r");
  CHECK(accesses_of("ld.shared.u32 %r1, [%r1];") == "%r1=rw");
  CHECK(accesses_of("atom.global.cas.b32 %r1, [%d1], %r2, %r3;") == "%r1=w %d1=r %r2=r %r3=r");
  CHECK(accesses_of("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, "
                    "{%r5,%r6}, {%f1,%f5,%f6,%f7};") ==
        "%f1=rw %f2=w %f3=w %f4=w %r1=r %r2=r %r3=r %r4=r %r5=r %r6=r %f5=r %f6=r %f7=r");
  CHECK(accesses_of("mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], %r2;") == "%p1=w %r1=r %r2=r");
  CHECK(accesses_of("mbarrier.arrive.shared.b64 %d1, [%r1];") == "%d1=w %r1=r");
  CHECK(accesses_of("bar.red.popc.u32 %r1, 0, %p1;") == "%r1=w %p1=r");
}

TEST_CASE("accesses: instructions without results") {
  CHECK(accesses_of("st.global.v2.f32 [%d1], {%f1, %f2};") == "%d1=r %f1=r %f2=r");
  CHECK(accesses_of("red.global.add.u32 [%d1], %r1;") == "%d1=r %r1=r");
  CHECK(accesses_of("stmatrix.sync.aligned.x2.m8n8.shared.b16 [%r1], {%r2, %r3};") == "%r1=r %r2=r %r3=r");
  CHECK(accesses_of("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], "
                    "[%d1, {%r2, %r3}], [%r4];") == "%r1=r %d1=r %r2=r %r3=r %r4=r");
  CHECK(accesses_of("mbarrier.init.shared::cta.b64 [%r1], %r2;") == "%r1=r %r2=r");
  CHECK(accesses_of("mbarrier.arrive.shared::cluster.b64 _, [%r1], %r2;") == "%r1=r %r2=r");
  CHECK(accesses_of("bar.sync %r1, %r2;") == "%r1=r %r2=r");
  CHECK(accesses_of("bar.warp.sync %r1;") == "%r1=r");
  CHECK(accesses_of("barrier.sync %r1;") == "%r1=r");
  CHECK(accesses_of("nanosleep.u32 %r1;") == "%r1=r");
  CHECK(accesses_of("brx.idx %r1, t; l: t: .branchtargets l;") == "%r1=r");
  CHECK(accesses_of("@%p1 ret;") == "%p1=r");
  CHECK(accesses_of("{ .param .b32 x; .param .b32 y; p: .callprototype (.param .b32 _) _ (.param .b32 _);\n"
                    "call (x), %d1, (y), p; }") == "%d1=r");
}

TEST_CASE("accesses: wgmma adds to what its accumulators hold") {
  CHECK(accesses_of(
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1,%f2,%f3,%f4}, %d1, %d2, %p1, 1, 1, 0, 0;") ==
        "%f1=rw %f2=rw %f3=rw %f4=rw %d1=r %d2=r %p1=r");
  CHECK(accesses_of("wgmma.wait_group.sync.aligned 0;").empty());
  CHECK(accesses_of("wgmma.fence.sync.aligned;").empty());
}

TEST_CASE("accesses: an unknown instruction is refused") {
  CHECK(error_of([] { accesses_of("frob.b32 %r1, %r2;"); }) ==
        "test:7: unknown instruction; in kernel k, at unknown line: `frob.b32 %r1, %r2`");
}

TEST_CASE("registers: one after the other share, a result and its sources do not") {
  const Planned p = plan(
      "ld.param.u32 %r1, [n]; add.s32 %r2, %r1, 1; add.s32 %r3, %r2, 1; add.s32 %r4, %r3, 1; st.shared.u32 [0], %r4;");
  CHECK(p.allocation.rows == 2);
  CHECK(p.slot("%r1") == p.slot("%r3"));
  CHECK(p.slot("%r1") != p.slot("%r2"));
  CHECK(p.slot("%r5") == kUnallocated);
}

TEST_CASE("registers: rows of different widths are never shared, wide ones are aligned") {
  const Planned p = plan(
      "ld.param.u32 %r1, [n]; st.shared.u32 [0], %r1; mov.b64 %d1, 7; st.shared.u64 [0], %d1; mov.b64 %d2, 1;\n"
      "mov.b128 %q1, {%d2, %d2}; st.shared.b128 [0], %q1; mov.b16 %h1, 1; st.shared.u16 [0], %h1; mov.pred %p1, 1;\n"
      "@%p1 ret;");
  CHECK(p.slot("%q1") == 0);
  CHECK(p.slot("%d1") == 4);
  CHECK(p.slot("%d2") == 4);
  CHECK(p.slot("%r1") == 6);
  CHECK(p.slot("%h1") == 6);
  CHECK(p.slot("%p1") == 0);
  CHECK(p.allocation.rows == 7);
  CHECK(p.allocation.predicates == 1);
}

TEST_CASE("registers: what is alive in one arm is not overwritten by the other arm, nor by what follows") {
  const Planned p = plan(
      "mov.b32 %r1, 1; mov.b32 %r2, 2; @%p1 bra l; mov.b32 %r3, 3; st.shared.u32 [0], %r3; bra m;\n"
      "l: st.shared.u32 [0], %r2; m: st.shared.u32 [0], %r1;");
  CHECK(p.slot("%r3") != p.slot("%r1"));
  CHECK(p.slot("%r3") == p.slot("%r2"));  // no path holds both: each lane has its own column
}

TEST_CASE("registers: a guarded write does not end the old value") {
  const Planned p =
      plan("mov.b32 %r1, 1; mov.b32 %r2, 2; st.shared.u32 [0], %r2; @%p1 mov.b32 %r1, 3; st.shared.u32 [0], %r1;");
  CHECK(p.slot("%r1") != p.slot("%r2"));
  const Planned whole =
      plan("mov.b32 %r1, 1; mov.b32 %r2, 2; st.shared.u32 [0], %r2; mov.b32 %r1, 3; st.shared.u32 [0], %r1;");
  CHECK(whole.allocation.rows == 1);
}

TEST_CASE("registers: what a loop reads in its next round lives through it") {
  const Planned p =
      plan("mov.b32 %r1, 0; top: st.shared.u32 [0], %r1; mov.b32 %r2, 1; st.shared.u32 [0], %r2; @%p1 bra top;");
  CHECK(p.slot("%r1") != p.slot("%r2"));
}

TEST_CASE("registers: what may be read unwritten shares with nothing on the way there") {
  const Planned p = plan("mov.b32 %r1, 1; st.shared.u32 [0], %r1; @%p1 mov.b32 %r2, 2; st.shared.u32 [0], %r2;");
  CHECK(p.slot("%r1") != p.slot("%r2"));
}

TEST_CASE("registers: a copy gets the rows of its source if the source ends there") {
  CHECK(plan("ld.param.u32 %r1, [n]; ld.param.u32 %r2, [n]; mov.b32 %r3, %r2; add.s32 %r4, %r1, %r3;").slot("%r3") ==
        1);
  const Planned both = plan("ld.param.u32 %r1, [n]; mov.b32 %r2, %r1; add.s32 %r2, %r2, %r1; st.shared.u32 [0], %r2;");
  CHECK(both.slot("%r1") != both.slot("%r2"));
}

TEST_CASE("registers: operands of wgmma keep their rows until all is waited for") {
  const std::string load = "ld.shared.v4.u32 {%r1,%r2,%r3,%r4}, [0]; ld.shared.v4.f32 {%f1,%f2,%f3,%f4}, [0];\n";
  const std::string multiply =
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, %d2, %p1, 1, 1, 0;\n";
  const std::string use = "mov.b32 %r5, 0; st.shared.u32 [0], %r5;\n";
  const std::string wait_for_all = "wgmma.wait_group.sync.aligned 0;\n";
  const auto rows = [](const std::string& body) { return plan(body).allocation.rows; };
  constexpr uint32_t kOperands = 2 + 4 + 4;
  CHECK(rows(load + multiply + wait_for_all + use) == kOperands);
  CHECK(rows(load + multiply + "wgmma.wait_group.sync.aligned 1;\n" + use) == kOperands + 1);
  CHECK(rows(load + multiply + use + wait_for_all) == kOperands + 1);
  // In the next round of a loop as well.
  CHECK(rows("top: " + load + multiply + "@%p2 bra top;" + wait_for_all) == kOperands);
  CHECK(rows("top: " + use + load + multiply + "@%p2 bra top;" + wait_for_all) == kOperands + 1);
}

namespace {

// Programs of random branches over few registers of every width. %r0 … %r8 and their like are alive almost anywhere,
// those from 10 on only within a block.
std::string random_body(std::mt19937_64& random) {
  const auto pick = [&](int n) { return std::to_string(random() % static_cast<uint64_t>(n)); };
  const auto guard = [&] { return random() % 3 == 0 ? "@%p" + pick(4) + " " : std::string(); };
  const auto r = [&] { return "%r" + pick(9); };
  const auto d = [&] { return "%d" + pick(5); };
  constexpr int kBlocks = 12;
  std::string text = "t: .branchtargets l" + pick(kBlocks) + ", l" + pick(kBlocks) + ", l" + pick(kBlocks) + ";\n";
  for (int b = 0; b < kBlocks; ++b) {
    const auto own = [&](const char* prefix, int i) { return prefix + std::to_string(10 + 5 * b + i); };
    const std::string inputs =
        "{" + own("%r", 0) + ", " + own("%r", 1) + ", " + own("%r", 2) + ", " + own("%r", 3) + "}";
    const std::string sums = "{" + own("%f", 0) + ", " + own("%f", 1) + ", " + own("%f", 2) + ", " + own("%f", 3) + "}";
    text += "l" + std::to_string(b) + ":\n";
    text += "ld.shared.v4.u32 " + inputs + ", [" + r() + "];\nld.shared.v4.f32 " + sums + ", [0];\n";
    for (int i = 0; i < 5; ++i) {
      text += guard();
      switch (random() % 10) {
        case 0: text += "add.s32 " + r() + ", " + r() + ", " + r(); break;
        case 1: text += "mov.b32 " + r() + ", " + r(); break;
        case 2: text += "mov.b64 " + d() + ", {" + r() + ", " + r() + "}"; break;
        case 3: text += "add.s64 " + d() + ", " + d() + ", " + d(); break;
        case 4: text += "setp.eq.s32 %p" + pick(4) + ", " + r() + ", " + r(); break;
        case 5: text += "mov.b128 %q" + pick(3) + ", {" + d() + ", " + d() + "}"; break;
        case 6:
          text += "ld.global.v2.u32 {%r" + pick(4) + ", %r" + std::to_string(4 + random() % 4) + "}, [" + d() + "]";
          break;
        case 7: text += "st.shared.b128 [" + r() + "], %q" + pick(3); break;
        case 8: text += "add.f32 " + own("%f", 4) + ", " + own("%f", 0) + ", " + own("%f", 1); break;
        default: text += "st.global.u64 [" + d() + "], " + d();
      }
      text += ";\n";
    }
    text += "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 " + sums + ", " + inputs + ", %d0, %p0, 1, 1, 0;\n";
    // The last use of the inputs, and nobody reads the sums: only the wait behind keeps their rows.
    text += "mov.b32 " + own("%r", 4) + ", 1;\nadd.s32 " + r() + ", " + own("%r", 4) + ", 1;\n";
    if (random() % 2 == 0) text += "wgmma.wait_group.sync.aligned 0;\n";
    if (random() % 3 != 0) text += guard() + "bra l" + pick(kBlocks) + ";\n";
    if (random() % 6 == 0) text += "brx.idx " + r() + ", t;\n";
  }
  return text;
}

}  // namespace

TEST_CASE("registers: 32 lanes on random paths through random programs always read what they wrote") {
  constexpr int kPrograms = 60;
  uint32_t rows = 0;
  for (uint64_t seed = 1; seed <= kPrograms; ++seed) {
    std::mt19937_64 random(seed);
    const Planned p = plan(random_body(random));
    INFO("seed " << seed);
    CHECK(Walk(*p.kernel.module, *p.kernel.function, p.flow, p.allocation, seed).run(20000) == "");
    rows += p.allocation.rows;
  }
  constexpr uint32_t kEverywhere = 9 + 2 * 5 + 4 * 3, kOwn = 10, kBlocks = 12;
  CHECK(rows < kPrograms * (kEverywhere + kBlocks * kOwn / 2));  // without sharing, nothing would be proven
}
