// Basic blocks, and where the lanes that part at a branch meet again.
#include "doctest.h"
#include "parser_text.h"
#include "ptx/control_flow.h"

using namespace foretoken::ptx;

namespace {

struct Flow {
  Kernel kernel;
  ControlFlow flow;
  // The `mov.b32 %r<n>, …` of the meeting point of the branch that is statement i; -1 if it is none.
  int meets_at_mov(uint32_t i) const {
    const uint32_t at = flow.meeting_point_of(i);
    if (at == kNoMeetingPoint || kernel.at(at).mnemonic != "mov") return -1;
    return kernel.function->registers[kernel.at(at).operands[0].reg].number;
  }
};

Flow flow_of(const std::string& body, const std::string& items = "") {
  Flow flow{parse_kernel(body, items), {}};
  flow.flow = control_flow(*flow.kernel.module, *flow.kernel.function);
  return flow;
}

}  // namespace

TEST_CASE("control flow: blocks begin at targets and end at branches") {
  const Flow f =
      flow_of("mov.b32 %r1, 0;\n @%p1 bra l;\n mov.b32 %r2, 0;\n mov.b32 %r3, 0;\n l: mov.b32 %r4, 0;\n ret;");
  REQUIRE(f.flow.blocks.size() == 3);
  CHECK(f.flow.blocks[0].end == 2);
  CHECK(f.flow.blocks[0].successors == std::vector<uint32_t>{1, 2});
  CHECK(f.flow.blocks[1].successors == std::vector<uint32_t>{2});
  CHECK(f.flow.blocks[2].predecessors == std::vector<uint32_t>{0, 1});
  CHECK(f.flow.blocks[2].successors.empty());
  CHECK(f.flow.block_of == std::vector<uint32_t>{0, 0, 1, 1, 2, 2});
}

TEST_CASE("control flow: a guarded ret goes on, others do not") {
  const Flow f = flow_of("@%p1 ret;\n mov.b32 %r1, 0;\n exit;\n mov.b32 %r2, 0;\n trap;");
  REQUIRE(f.flow.blocks.size() == 3);
  CHECK(f.flow.blocks[0].successors == std::vector<uint32_t>{1});
  CHECK(f.flow.blocks[1].successors.empty());
  CHECK(f.flow.blocks[2].successors.empty());
}

TEST_CASE("control flow: what calls a function that does not return is a way out") {
  const Flow f = flow_of("call stop; mov.b32 %r1, 0; call go; mov.b32 %r2, 0;",
                         ".extern .func stop() .noreturn; .extern .func go();");
  REQUIRE(f.flow.blocks.size() == 2);
  CHECK(f.flow.blocks[0].successors.empty());
  CHECK(f.flow.blocks[1].end == 5);
}

TEST_CASE("control flow: if without and with else") {
  CHECK(flow_of("@%p1 bra l; mov.b32 %r1, 0; l: mov.b32 %r2, 0;").meets_at_mov(0) == 2);
  CHECK(flow_of("@%p1 bra l; mov.b32 %r1, 0; bra.uni m; l: mov.b32 %r2, 0; m: mov.b32 %r3, 0;").meets_at_mov(0) == 3);
}

TEST_CASE("control flow: a branch to what follows anyway") {
  CHECK(flow_of("@%p1 bra l; l: mov.b32 %r2, 0;").meets_at_mov(0) == 2);
}

TEST_CASE("control flow: lanes that leave a loop wait behind it") {
  const Flow f = flow_of("l: mov.b32 %r1, 0; @%p1 bra l; mov.b32 %r2, 0;");
  CHECK(f.meets_at_mov(1) == 2);
  // With a break in the middle, which meets the loop's own exit.
  const Flow broken = flow_of("l: mov.b32 %r1, 0; @%p2 bra m; mov.b32 %r3, 0; @%p1 bra l; m: mov.b32 %r2, 0;");
  CHECK(broken.meets_at_mov(1) == 2);
  CHECK(broken.meets_at_mov(3) == 2);
}

TEST_CASE("control flow: the inner of two branches meets before the outer") {
  const Flow f =
      flow_of("@%p1 bra outer;\n @%p2 bra inner;\n mov.b32 %r1, 0;\n inner: mov.b32 %r2, 0;\n outer: mov.b32 %r3, 0;");
  CHECK(f.meets_at_mov(0) == 3);
  CHECK(f.meets_at_mov(1) == 2);
}

TEST_CASE("control flow: all cases of a switch meet behind it") {
  const Flow f = flow_of(
      "t: .branchtargets a, b, c, a;\n brx.idx %r1, t;\n a: mov.b32 %r1, 0; bra m;\n b: mov.b32 %r2, 0; bra m;\n"
      "c: mov.b32 %r3, 0;\n m: mov.b32 %r4, 0;");
  CHECK(f.flow.blocks[0].successors.size() == 3);
  CHECK(f.meets_at_mov(0) == 4);
}

TEST_CASE("control flow: lanes that return early are not waited for") {
  // if (p1) { if (p2) return; r1 } r2, with a `ret` of its own, and with the common one at the end.
  const Flow own = flow_of("@!%p1 bra m; @!%p2 bra l; ret; l: mov.b32 %r1, 0; m: mov.b32 %r2, 0; ret;");
  CHECK(own.meets_at_mov(0) == 2);
  const Flow common =
      flow_of("@!%p1 bra m; @%p2 bra end; mov.b32 %r1, 0; m: mov.b32 %r2, 0; @%p3 bra end; mov.b32 %r3, 0; end: ret;");
  CHECK(common.meets_at_mov(0) == 2);
  CHECK(common.flow.meeting_point_of(1) == common.kernel.function->body.size() - 1);  // one way only leaves
}

TEST_CASE("control flow: a way out that both arms share is not where they meet") {
  const Flow f = flow_of(
      "@%p1 bra l; @%p2 bra out; mov.b32 %r1, 0; bra m; l: @%p3 bra out; mov.b32 %r2, 0; m: mov.b32 %r3, 0; ret;\n"
      "out: ret;");
  CHECK(f.meets_at_mov(0) == 3);
}

TEST_CASE("control flow: lanes that trap are not waited for") {
  const Flow f = flow_of("@%p1 bra l; mov.b32 %r1, 0; @%p2 bra m; trap; l: mov.b32 %r2, 0; m: mov.b32 %r3, 0;");
  CHECK(f.meets_at_mov(0) == 3);
}

TEST_CASE("control flow: in a loop with an early return, both ways meet in the loop, not around it") {
  const Flow f = flow_of(
      "top: mov.b32 %r1, 0; @%p1 bra l; @%p2 bra end; mov.b32 %r2, 0; bra m; l: mov.b32 %r3, 0; m: mov.b32 %r4, 0;\n"
      "@%p3 bra top; mov.b32 %r5, 0; end: ret;");
  CHECK(f.meets_at_mov(1) == 4);
}

TEST_CASE("control flow: a loop that never ends has no post-dominator") {
  const Flow f = flow_of("@%p1 bra l; m: bra m; l: mov.b32 %r1, 0;");
  CHECK(f.flow.meeting_point_of(0) != 1);
  const Flow endless = flow_of("top: @%p1 bra top; bra top;");
  CHECK(endless.flow.blocks.size() == 2);
}
