// Undefined values: moved about without complaint, exact to the bit where bits move, reported where they decide.
#include "doctest.h"
#include "semantics.h"

using namespace ptx_test;

namespace {

// What of the result of `instruction` is undefined, bit by byte (0xff where a byte is undefined): %u is undefined as a
// whole, %k 0x12345678, %h has its upper 16 bits undefined (and 0x5678 below).
uint64_t undefined_of(const std::string& instruction, bool wide = false) {
  Device device;
  const uint64_t out = device.put(std::vector<uint64_t>(32));
  const uint64_t in = device.take_array<uint64_t>(1);
  const uint32_t low = 0x5678;
  std::memcpy(device.memory.cell(in), &low, 2);
  device.memory.mark_defined(in, 2);
  device.run(kernel(".reg .b32 %u, %k, %h, %r; .reg .b64 %l, %m, %d; .reg .b16 %s; .reg .f32 %f; .reg .pred %q, %w; "
                    ".reg .u64 %o;\n"
                    "mov.u32 %k, 0x12345678;\nmov.u64 %m, 0x123456789abcdef0;\nld.global.u32 %h, [%p0];\nmov.u32 %r, "
                    "0;\nmov.u64 %d, 0;\n" +
                        instruction + "\nmul.wide.u32 %o, %t, 8;\nadd.u64 %o, %o, %p1;\nst.global." +
                        (wide ? "u64 [%o], %d;" : "u32 [%o], %r;"),
                    2),
             std::vector<uint64_t>{in, out});
  const uint64_t bits = device.memory.undefined(out, wide ? 8 : 4);
  for (uint64_t lane = 1; lane < 32; ++lane) CHECK(device.memory.undefined(out + 8 * lane, wide ? 8 : 4) == bits);
  return bits;
}

std::string fault_of(const std::string& body) {
  Device device;
  const uint64_t out = device.put(std::vector<uint32_t>(32));
  return device.fault(kernel(".reg .b32 %u, %r; .reg .pred %q, %w; .reg .u64 %o;\nmov.u32 %r, 0;\n" + body, 1),
                      std::vector<uint64_t>{out});
}

}  // namespace

TEST_CASE("arithmetic is undefined as a whole where any bit of a source is") {
  for (const char* text : {"add.u32 %r, %u, %k;", "add.u32 %r, %k, %h;", "mul.lo.u32 %r, %h, 0;",
                           "cvt.rn.f32.u32 %r, %u;", "min.s32 %r, %k, %u;", "fma.rn.f32 %r, %k, %k, %u;",
                           "ex2.approx.f32 %r, %u;", "popc.b32 %r, %h;", "mad.lo.s32 %r, %k, %k, %h;"}) {
    CAPTURE(text);
    CHECK(undefined_of(text) == 0xf);
  }
  CHECK(undefined_of("add.u32 %r, %k, 1;") == 0);
  CHECK(undefined_of("mul.wide.u32 %d, %h, 2;", true) == 0xff);
}

TEST_CASE("moved bits keep what is undefined of them") {
  CHECK(undefined_of("mov.b32 %r, %h;") == 0xc);
  CHECK(undefined_of("shl.b32 %r, %h, 16;") == 0);
  CHECK(undefined_of("shl.b32 %r, %h, 8;") == 0x8);
  CHECK(undefined_of("shr.u32 %r, %h, 16;") == 0x3);
  CHECK(undefined_of("shr.s32 %r, %h, 16;") == 0xf);
  CHECK(undefined_of("shl.b32 %r, %k, %u;") == 0xf);
  CHECK(undefined_of("shf.l.wrap.b32 %r, %h, %k, 16;") == 0x3);
  CHECK(undefined_of("prmt.b32 %r, %h, %k, 0x4321;") == 0x6);
  CHECK(undefined_of("prmt.b32 %r, %h, %k, 0x7654;") == 0);
  CHECK(undefined_of("bfe.u32 %r, %h, 0, 16;") == 0);
  CHECK(undefined_of("bfe.u32 %r, %h, 8, 16;") == 0x2);
  CHECK(undefined_of("bfi.b32 %r, %k, %h, 16, 16;") == 0);
  CHECK(undefined_of("mov.b32 {%s, _}, %h;\ncvt.u32.u16 %r, %s;") == 0);
  CHECK(undefined_of("mov.b64 %d, {%h, %k};", true) == 0x0c);
  CHECK(undefined_of("mov.b64 %l, {%u, %k};\nmov.b64 {_, %r}, %l;") == 0);
  CHECK(undefined_of("mov.b64 %l, {%u, %k};\nmov.b64 {%r, _}, %l;") == 0xf);
  CHECK(undefined_of("cvt.u64.u32 %d, %h;", true) == 0x0c);
  CHECK(undefined_of("brev.b32 %r, %h;") == 0x3);
  CHECK(undefined_of("shfl.sync.bfly.b32 %r, %h, 1, 31, -1;") == 0xc);
}

TEST_CASE("known bits decide: 0 & x, 1 | x, tables that ignore an input") {
  CHECK(undefined_of("and.b32 %r, %u, 0;") == 0);
  CHECK(undefined_of("and.b32 %r, %u, 0xff00;") == 0x2);
  CHECK(undefined_of("or.b32 %r, %u, 0xffff00ff;") == 0x2);
  CHECK(undefined_of("xor.b32 %r, %u, %u;") == 0xf);
  CHECK(undefined_of("not.b32 %r, %h;") == 0xc);
  CHECK(undefined_of("lop3.b32 %r, %u, %k, %k, 0xcc;") == 0);  // b
  CHECK(undefined_of("lop3.b32 %r, %u, %k, %k, 0xca;") == 0);  // a ? b : c with b = c
  CHECK(undefined_of("lop3.b32 %r, %u, %k, 0, 0xca;") == 0xf);
}

TEST_CASE("packed halves are undefined one by one") {
  CHECK(undefined_of("fma.rn.f16x2 %r, %h, %h, %k;") == 0xc);
  CHECK(undefined_of("add.bf16x2 %r, %h, %k;") == 0xc);
  CHECK(undefined_of("cvt.rn.bf16x2.f32 %r, %u, %k;") == 0xc);
  CHECK(undefined_of("cvt.rn.f16x2.f32 %r, %k, %u;") == 0x3);
}

TEST_CASE("choices take what they choose; an undefined choice is undefined") {
  const std::string defined = "setp.lt.u32 %q, %t, 100;\n", undefined = "setp.lt.u32 %q, %u, 100;\n";
  CHECK(undefined_of(defined + "selp.b32 %r, %k, %u, %q;") == 0);
  CHECK(undefined_of(defined + "selp.b32 %r, %u, %k, %q;") == 0xf);
  CHECK(undefined_of(undefined + "selp.b32 %r, %k, %k, %q;") == 0xf);
  CHECK(undefined_of(undefined + "and.pred %q, %q, !%q;\nselp.b32 %r, %k, 1, %q;") == 0xf);
  CHECK(undefined_of(defined + "setp.ne.u32 %w, %u, 0;\nor.pred %q, %q, %w;\nselp.b32 %r, %k, 1, %q;") == 0);
  CHECK(undefined_of(defined + "setp.ne.or.u32 %q, %u, 0, %q;\nselp.b32 %r, %k, 1, %q;") == 0);
  // A guard that is undefined makes the result so, whether it lets the lane execute or not.
  CHECK(undefined_of(undefined + "@%q mov.u32 %r, %k;") == 0xf);
}

TEST_CASE("lanes are undefined one by one, and memory byte by byte") {
  // Lanes 0 … 15 write %u: the rest of it stays undefined; each lane then stores one byte of it to shared memory.
  Device device;
  const uint64_t out = device.put(std::vector<uint8_t>(32));
  device.run(kernel(".reg .b32 %u, %s, %v; .reg .pred %q; .reg .u64 %o;\nsetp.lt.u32 %q, %t, 16;\n@%q mov.u32 %u, "
                    "3;\nadd.u32 %s, %smem, %t;\n"
                    "st.shared.u8 [%s], %u;\nbar.warp.sync -1;\nld.shared.u8 %v, [%s];\ncvt.u64.u32 %o, %t;\nadd.u64 "
                    "%o, %o, %p0;\nst.global.u8 [%o], %v;",
                    1),
             std::vector<uint64_t>{out});
  CHECK(device.memory.undefined(out, 32) == 0xffff0000);
  CHECK(device.memory.first_undefined(out, 32) == out + 16);
}

TEST_CASE("shared, local and fresh global memory are undefined until written, again for every block") {
  Device device;
  device.shape.grid = {5};
  device.shape.blocks_per_sm = 1;
  device.shape.sm_count = 1;
  const uint64_t out = device.put(std::vector<uint32_t>(5)), fresh = device.take_array<uint32_t>(1);
  const std::string text = kernel(
      ".reg .b32 %v, %b; .reg .u64 %o; .reg .pred %q;\nmov.u32 %b, %ctaid.x;\nmul.wide.u32 %o, %b, 4;\nadd.u64 %o, %o, "
      "%p0;\n"
      "setp.ne.u32 %q, %t, 0;\n@%q exit;\nld.shared.u32 %v, [%smem];\nst.shared.u32 [%smem], 1;\nst.global.u32 [%o], "
      "%v;",
      2);
  device.run(text, std::vector<uint64_t>{out, fresh});
  CHECK(device.memory.undefined(out, 20) == 0xfffff);
  device.shape.grid = {1};
  device.run(kernel(".reg .b32 %v;\n.reg .pred %q;\nsetp.ne.u32 %q, %t, 0;\n@%q exit;\nld.global.u32 %v, "
                    "[%p1];\nst.global.u32 [%p0], %v;",
                    2),
             std::vector<uint64_t>{out, fresh});
  CHECK(device.memory.undefined(out, 4) == 0xf);
  device.run(kernel(".reg .b32 %v;\n.local .b32 box;\n.reg .pred %q;\nsetp.ne.u32 %q, %t, 0;\n@%q exit;\nst.local.u8 "
                    "[box], 1;\nld.local.u32 %v, [box];\n"
                    "st.global.u32 [%p0], %v;",
                    2),
             std::vector<uint64_t>{out, fresh});
  CHECK(device.memory.undefined(out, 4) == 0xe);
}

TEST_CASE("reported where it decides: a branch, an address, a store's guard, a barrier, a call") {
  const std::string branch = fault_of("setp.eq.u32 %q, %u, 0;\n@%q bra end;\nmov.u32 %r, 1;\nend:\n");
  CHECK(contains(branch, "an undefined value decides a branch; in kernel k"));
  CHECK(contains(branch, "block (0,0,0), thread (0,0,0): `@%q bra end"));
  CHECK(contains(fault_of("setp.eq.u32 %q, %u, 0;\n@%q st.global.u32 [%p0], %r;"),
                 "an undefined value decides whether an instruction is executed"));
  CHECK(contains(fault_of("cvt.u64.u32 %o, %u;\nadd.u64 %o, %o, %p0;\nld.global.u32 %r, [%o];"),
                 "an undefined value decides an address"));
  CHECK(contains(fault_of("bar.sync %u;"), "an undefined value decides a barrier's number"));
  CHECK(contains(fault_of("targets: .branchtargets end, end;\nbrx.idx %u, targets;\nend:\n"),
                 "an undefined value decides a branch"));
  // Only lanes whose value is undefined are meant, and only if they execute.
  const std::string some = "setp.lt.u32 %w, %t, 20;\n@%w mov.u32 %u, 0;\nsetp.eq.u32 %q, %u, 0;\n";
  CHECK(contains(fault_of(some + "@%q bra end;\nend:\n"), "thread (20,0,0)"));
  CHECK(fault_of(some + "@!%w bra end;\n@%q bra end;\nmov.u32 %r, 1;\nend:\n") == "");
  CHECK(fault_of("add.u32 %r, %u, 1;\nst.global.u32 [%p0], %r;") == "");
}
