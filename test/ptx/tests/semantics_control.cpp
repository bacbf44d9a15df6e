// Branches, calls, barriers, special registers, the scheduler's promises.
#include "doctest.h"
#include "semantics.h"

using namespace ptx_test;

namespace {

const char* const kPrologue =
    ".reg .u64 %o; .reg .b32 %r, %x<8>; .reg .pred %q, %w;\nmov.u32 %x0, %ctaid.x;\nmov.u32 %x1, %ntid.x;\n"
    "mad.lo.u32 %x0, %x0, %x1, %t;\nmul.wide.u32 %o, %x0, 4;\nadd.u64 %o, %o, %p0;\nmov.u32 %r, 0;\n";

// %r by thread of the grid.
std::vector<uint32_t> by_thread(const std::string& body, Device& device, const std::string& functions = "") {
  const size_t threads = device.shape.grid.count() * device.shape.block.count();
  const uint64_t out = device.put(std::vector<uint32_t>(threads, 0xeeeeeeee));
  std::string text = kernel(kPrologue + body + "\nst.global.u32 [%o], %r;", 1);
  text.insert(text.find(".visible .entry"), functions);
  device.run(text, std::vector<uint64_t>{out});
  return device.get<uint32_t>(out, threads);
}

std::vector<uint32_t> threads(uint32_t count, const std::function<uint32_t(uint32_t)>& f) {
  std::vector<uint32_t> result;
  for (uint32_t t = 0; t < count; ++t) result.push_back(f(t));
  return result;
}

std::string fault_of(const std::string& body, Device& device) {
  return device.fault(kernel(kPrologue + body, 1), std::vector<uint64_t>{0});
}

}  // namespace

TEST_CASE("loops that lanes leave one by one, with branches inside, in every schedule") {
  // Collatz steps.
  const std::string text =
      "add.u32 %x2, %t, 1;\nagain:\nsetp.eq.u32 %q, %x2, 1;\n@%q bra done;\nand.b32 %x3, %x2, 1;\nsetp.eq.u32 %w, %x3, "
      "0;\n"
      "@%w bra even;\nmad.lo.u32 %x2, %x2, 3, 1;\nbra next;\neven:\nshr.u32 %x2, %x2, 1;\nnext:\nadd.u32 %r, %r, "
      "1;\nbra again;\ndone:\n"
      "activemask.b32 %x4;\nsetp.ne.u32 %q, %x4, -1;\n@%q add.u32 %r, %r, 1000;";
  const auto expected = threads(96, [](uint32_t t) {
    uint32_t steps = 0;
    for (uint64_t n = t + 1; n != 1; n = n % 2 ? 3 * n + 1 : n / 2) ++steps;
    return steps;
  });
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {96};
    // All lanes are together again behind the loop, or 1000 would have been added.
    CHECK(by_thread(text, device) == expected);
  }
}

TEST_CASE("lanes that wait for other lanes of their warp get what they wait for") {
  // Lane 0 takes the lock last; a stack of divergences would wait for the others for ever.
  const std::string text =
      "setp.eq.u32 %q, %t, 0;\n@%q st.shared.u32 [%smem], 0;\nbar.warp.sync -1;\n@%q bra "
      "signal;\nwait:\nld.volatile.shared.u32 %x2, [%smem];\n"
      "setp.eq.u32 %w, %x2, 0;\n@%w bra wait;\nmov.u32 %r, %x2;\nbra end;\nsignal:\nst.volatile.shared.u32 [%smem], "
      "5;\nmov.u32 %r, 6;\nend:\n";
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Device device;
    device.options.seed = seed;
    CHECK(by_thread(text, device) == threads(32, [](uint32_t t) { return t == 0 ? 6u : 5u; }));
  }
  // A lock of spinning lanes: each adds one under it.
  const std::string lock =
      "setp.eq.u32 %q, %t, 0;\n@%q st.shared.v2.u32 [%smem], {0, 0};\nbar.sync 0;\ntake:\natom.shared.cas.b32 %x2, "
      "[%smem], 0, 1;\n"
      "setp.ne.u32 %w, %x2, 0;\n@%w bra take;\nld.volatile.shared.u32 %x3, [%smem+4];\nadd.u32 %x3, %x3, "
      "1;\nst.volatile.shared.u32 [%smem+4], %x3;\n"
      "atom.shared.exch.b32 %x2, [%smem], 0;\nbar.sync 0;\nld.shared.u32 %r, [%smem+4];";
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {128};
    CHECK(by_thread(lock, device) == threads(128, [](uint32_t) { return 128; }));
  }
}

TEST_CASE("brx.idx") {
  const std::string text =
      "and.b32 %x2, %t, 3;\ntargets: .branchtargets first, second, third, second;\nbrx.idx %x2, "
      "targets;\nfirst:\nmov.u32 %r, 10;\nbra end;\n"
      "second:\nadd.u32 %r, %x2, 20;\nbra end;\nthird:\nmov.u32 %r, 30;\nend:\nactivemask.b32 %x3;\nsetp.ne.u32 %q, "
      "%x3, -1;\n@%q mov.u32 %r, 99;";
  Device device;
  CHECK(by_thread(text, device) == threads(32, [](uint32_t t) {
          const uint32_t values[] = {10, 21, 30, 23};
          return values[t % 4];
        }));
  CHECK(contains(fault_of("targets: .branchtargets one;\nbrx.idx %t, targets;\none:\n", device), "beyond its list"));
}

TEST_CASE("calls: arguments, results, local memory, nested, diverged, through pointers") {
  const std::string functions = R"(
.func (.param .b32 result) square(.param .b32 x) {
  .reg .b32 %a; .reg .pred %q;
  ld.param.b32 %a, [x];
  mul.lo.u32 %a, %a, %a;
  st.param.b32 [result], %a;
  ret;
}
.func (.param .b32 result) early(.param .b32 x, .param .b32 y) {
  .reg .b32 %a, %b; .reg .pred %q;
  .local .align 4 .b8 box[8];
  ld.param.b32 %a, [x];
  ld.param.b32 %b, [y];
  st.local.u32 [box], %a;
  setp.lt.u32 %q, %a, 10;
  st.param.b32 [result], %b;
  @%q ret;
  { .param .b32 in; .param .b32 out;
    st.param.b32 [in], %b;
    call (out), square, (in);
    ld.param.b32 %b, [out]; }
  ld.local.u32 %a, [box];
  add.u32 %a, %a, %b;
  st.param.b32 [result], %a;
  ret;
}
)";
  const std::string call =
      "{ .param .b32 a; .param .b32 b; .param .b32 c;\nst.param.b32 [a], %t;\nadd.u32 %x2, %t, 3;\nst.param.b32 [b], "
      "%x2;\n";
  const auto expected = [](uint32_t t) { return t < 10 ? t + 3 : t + (t + 3) * (t + 3); };
  const std::string together = "activemask.b32 %x3;\nsetp.ne.u32 %q, %x3, -1;\n@%q mov.u32 %r, 99;";
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Device device;
    device.options.seed = seed;
    CHECK(by_thread(call + "call.uni (c), early, (a, b);\nld.param.b32 %r, [c]; }\n" + together, device, functions) ==
          threads(32, expected));
    CHECK(by_thread("setp.gt.u32 %q, %t, 5;\n" + call + "@%q call (c), early, (a, b);\n@%q ld.param.b32 %r, [c]; }\n" +
                        together,
                    device, functions) == threads(32, [&](uint32_t t) { return t > 5 ? expected(t) : 0; }));
    // Every lane its own function.
    const std::string indirect =
        ".reg .u64 %f, %g;\nmov.u64 %f, square;\nmov.u64 %g, cube;\nsetp.gt.u32 %q, %t, 15;\nselp.u64 %f, %f, %g, %q;\n"
        "{ .param .b32 a; .param .b32 c;\nst.param.b32 [a], %t;\nprototype: .callprototype (.param .b32 _) _ (.param "
        ".b32 _);\n"
        "call (c), %f, (a), prototype;\nld.param.b32 %r, [c]; }\n" +
        together;
    const std::string cube =
        ".func (.param .b32 result) cube(.param .b32 x) { .reg .b32 %a, %b;\nld.param.b32 %a, [x];\nmul.lo.u32 %b, %a, "
        "%a;\n"
        "mul.lo.u32 %b, %b, %a;\nst.param.b32 [result], %b;\nret; }\n";
    CHECK(by_thread(indirect, device, functions + cube) ==
          threads(32, [](uint32_t t) { return t > 15 ? t * t : t * t * t; }));
  }
}

TEST_CASE("bar.sync, bar.arrive, bar.red: by threads, with numbers and counts") {
  // Two warps write, the other two read, by way of a barrier of 128 threads at which the writers only arrive.
  const std::string text =
      ".reg .u32 %s;\nshl.b32 %s, %t, 2;\nadd.u32 %s, %s, %smem;\nsetp.lt.u32 %q, %t, 64;\n@%q bra write;\nbar.sync 3, "
      "128;\n"
      "ld.shared.u32 %r, [%s+-256];\nbra end;\nwrite:\nmul.lo.u32 %x2, %t, 3;\nst.shared.u32 [%s], %x2;\nbar.arrive 3, "
      "128;\nend:\n";
  const std::string votes =
      "setp.lt.u32 %q, %t, 70;\nbarrier.cta.red.popc.aligned.u32 %r, 0, %q;\nbar.red.and.pred %w, 1, %q;\n@%w add.u32 "
      "%r, %r, 1000;\n"
      "bar.red.or.pred %w, 1, !%q;\n@%w add.u32 %r, %r, 2000;";
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {128};
    CHECK(by_thread(text, device) == threads(128, [](uint32_t t) { return t < 64 ? 0 : (t - 64) * 3; }));
    CHECK(by_thread(votes, device) == threads(128, [](uint32_t) { return 2070; }));
  }
}

TEST_CASE("exited threads do not count at a barrier of the whole block; those late to exit neither") {
  const std::string text =
      "setp.lt.u32 %q, %t, 40;\n@%q bra leave;\nbar.sync 0;\nmov.u32 %r, 1;\nbar.sync 0;\nmov.u32 %r, 2;\nbra "
      "end;\nleave:\n"
      "mov.u32 %x2, 0;\nmore:\nadd.u32 %x2, %x2, 1;\nsetp.lt.u32 %w, %x2, %t;\n@%w bra more;\nexit;\nend:\n";
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {100};
    CHECK(by_thread(text, device) == threads(100, [](uint32_t t) { return t < 40 ? 0xeeeeeeee : 2u; }));
  }
}

TEST_CASE("blocks: several at a time, all of a cooperative grid") {
  // Each block waits for the one before it: they start in ascending order, at least two at a time.
  const std::string chain =
      ".reg .u64 %f; .reg .u32 %b;\nmov.u32 %b, %ctaid.x;\nmul.wide.u32 %f, %b, 4;\nadd.u64 %f, %f, %p0;\nsetp.eq.u32 "
      "%q, %b, 0;\n"
      "@%q bra go;\nwait:\nld.acquire.gpu.global.u32 %x2, [%f+-4];\nsetp.eq.u32 %w, %x2, 0xeeeeeeee;\n@%w bra "
      "wait;\nadd.u32 %r, %x2, 1;\ngo:\n";
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {1};
    device.shape.grid = {40};
    device.shape.sm_count = 1;
    device.shape.blocks_per_sm = 2;
    CHECK(by_thread(chain, device) == threads(40, [](uint32_t t) { return t; }));
  }
  // The other way round it takes all at once.
  const std::string back =
      ".reg .u64 %f; .reg .u32 %b;\nmov.u32 %b, %ctaid.x;\nmul.wide.u32 %f, %b, 4;\nadd.u64 %f, %f, %p0;\nsetp.eq.u32 "
      "%q, %b, 39;\n"
      "@%q bra go;\nwait:\nld.acquire.gpu.global.u32 %x2, [%f+4];\nsetp.eq.u32 %w, %x2, 0xeeeeeeee;\n@%w bra "
      "wait;\nadd.u32 %r, %x2, 1;\ngo:\n";
  Device device;
  device.shape.block = {1};
  device.shape.grid = {40};
  device.shape.cooperative = true;
  CHECK(by_thread(back, device) == threads(40, [](uint32_t t) { return 39 - t; }));
  device.shape.cooperative = false;
  device.shape.sm_count = 2;
  CHECK_THROWS_AS(by_thread(back, device), Fault);
}

TEST_CASE("special registers") {
  Device device;
  device.shape.block = {5, 3, 4};
  device.shape.grid = {3, 2, 2};
  const auto value = [&](const std::string& special) { return by_thread("mov.u32 %r, %" + special + ";", device); };
  // by_thread numbers threads by %ctaid.x and %tid.x only: one block of one row for these.
  CHECK(value("ntid.x")[0] == 5);
  CHECK(value("ntid.y")[0] == 3);
  CHECK(value("ntid.z")[0] == 4);
  CHECK(value("nctaid.x")[0] == 3);
  CHECK(value("nctaid.y")[0] == 2);
  CHECK(value("nctaid.z")[0] == 2);
  Device one;
  one.shape.block = {70};
  const auto lane_of = [](uint32_t t) { return t % 32; };
  const auto of = [&](const std::string& special) { return by_thread("mov.u32 %r, %" + special + ";", one); };
  CHECK(of("tid.x") == threads(70, [](uint32_t t) { return t; }));
  CHECK(of("laneid") == threads(70, lane_of));
  CHECK(of("warpid") == threads(70, [](uint32_t t) { return t / 32; }));
  CHECK(of("lanemask_eq") == threads(70, [&](uint32_t t) { return 1u << lane_of(t); }));
  CHECK(of("lanemask_lt") == threads(70, [&](uint32_t t) { return (1u << lane_of(t)) - 1; }));
  CHECK(of("lanemask_le") == threads(70, [&](uint32_t t) { return (2u << lane_of(t)) - 1; }));
  CHECK(of("lanemask_gt") == threads(70, [&](uint32_t t) { return ~((2u << lane_of(t)) - 1); }));
  CHECK(of("lanemask_ge") == threads(70, [&](uint32_t t) { return ~((1u << lane_of(t)) - 1); }));
  // Three dimensions, by a kernel of its own.
  const uint64_t out = device.put(std::vector<uint32_t>(60 * 12, 0));
  device.run(kernel(".reg .u32 %i, %n, %y, %z; .reg .u64 %o;\nmov.u32 %y, %tid.y;\nmov.u32 %z, %tid.z;\nmad.lo.u32 %i, "
                    "%z, 3, %y;\nmad.lo.u32 %i, %i, 5, %t;\n"
                    "mov.u32 %n, %ctaid.z;\nmov.u32 %y, %ctaid.y;\nmad.lo.u32 %n, %n, 2, %y;\nmov.u32 %y, "
                    "%ctaid.x;\nmad.lo.u32 %n, %n, 3, %y;\n"
                    "mad.lo.u32 %i, %n, 60, %i;\nmul.wide.u32 %o, %i, 4;\nadd.u64 %o, %o, %p0;\nadd.u32 %i, %i, "
                    "7;\nst.global.u32 [%o], %i;",
                    1),
             std::vector<uint64_t>{out});
  CHECK(device.get<uint32_t>(out, 720) == threads(720, [](uint32_t t) { return t + 7; }));
}

TEST_CASE("what stops a launch, and how it is told") {
  Device device;
  CHECK(contains(fault_of("trap;", device), "trap; in kernel k, at "));
  CHECK(contains(fault_of("mul.s32 %r, %t, %t;", device), "instruction not known: `mul.s32 %r, %t, %t"));
  CHECK(contains(fault_of("add.frob.s32 %r, %t, %t;", device), "modifier .frob not known"));
  CHECK(contains(fault_of("add.s64 %r, %t, %t;", device), "wrong width"));
  device.shape.block = {64};
  const std::string never = fault_of("setp.lt.u32 %q, %t, 32;\n@%q bra end;\nbar.sync 2, 64;\nend:\n", device);
  CHECK(contains(never, "deadlock in kernel k: every thread waits"));
  CHECK(contains(never, "block (0,0,0), threads (32,0,0) to (63,0,0), at "));
  CHECK(contains(never, "bar.sync 2, 64"));
  const std::string spin = fault_of(
      "wait:\nld.volatile.shared.u32 %x2, [%smem];\nmov.u32 %x2, 0;\nsetp.eq.u32 %q, %x2, 0;\n@%q bra wait;", device);
  CHECK(contains(spin, "deadlock in kernel k: everyone looks in vain"));
  CHECK(contains(fault_of("bar.sync 0, 48;", device), "not a multiple of 32"));
  CHECK(contains(fault_of("bar.sync 16;", device), "there is no barrier 16"));
  device.options.instruction_limit = 10000;
  CHECK(contains(fault_of("more:\nadd.u32 %x2, %t, 1;\nbra more;", device), "more instructions than the limit"));
}

TEST_CASE("one seed, one schedule") {
  // Which block comes last is chance, but always the same chance.
  const std::string race = ".reg .u64 %f;\natom.global.add.u32 %r, [%p0], 1;\nmov.u64 %f, %p0;\nadd.u64 %o, %o, 64;";
  const auto order = [&](uint64_t seed) {
    Device device;
    device.options.seed = seed;
    device.shape.block = {64};
    device.shape.grid = {8};
    const uint64_t out = device.put(std::vector<uint32_t>(8 * 64 + 16, 0));
    device.run(kernel(kPrologue + race + "\nst.global.u32 [%o], %r;", 1), std::vector<uint64_t>{out});
    return device.get<uint32_t>(out, 8 * 64 + 16);
  };
  CHECK(order(1) == order(1));
  CHECK(order(1) != order(2));
}
