// Bodies: instructions and operands as written, scopes, labels, calls, source lines, and what is refused.
#include "doctest.h"
#include "parser_text.h"

using namespace foretoken::ptx;

namespace {

std::string name(const Kernel& kernel, const Operand& operand) {
  REQUIRE(operand.kind == OperandKind::reg);
  return kernel.function->registers[operand.reg].text();
}

}  // namespace

TEST_CASE("parser: mnemonic, modifiers, guard") {
  const Kernel k = parse_kernel("@!%p2 cp.async.cg.shared.global.L2::128B [%r1], [%d2], 16, %r3;");
  const Statement& s = k.at(0);
  CHECK(s.mnemonic == "cp");
  CHECK(s.modifiers == std::vector<std::string_view>{"async", "cg", "shared", "global", "L2::128B"});
  CHECK(s.has("cg"));
  CHECK_FALSE(s.has("ca"));
  REQUIRE(s.guard);
  CHECK(k.function->registers[*s.guard].text() == "%p2");
  CHECK(s.guard_negated);
  CHECK(statement_text(*k.module, s) == "@!%p2 cp.async.cg.shared.global.L2::128B [%r1], [%d2], 16, %r3");
}

TEST_CASE("parser: immediates") {
  const auto bits = [](const std::string& text, OperandKind kind) {
    const Kernel k = parse_kernel("mov.b64 %d1, " + text + ";");
    CHECK(k.at(0).operands[1].kind == kind);
    return k.at(0).operands[1].bits;
  };
  CHECK(bits("12", OperandKind::integer) == 12);
  CHECK(bits("-1", OperandKind::integer) == UINT64_MAX);
  CHECK(bits("- -7", OperandKind::integer) == 7);
  CHECK(bits("~0", OperandKind::integer) == UINT64_MAX);
  CHECK(bits("0xFFFFFFFFFFFFFFFF", OperandKind::integer) == UINT64_MAX);
  CHECK(bits("0x1FU", OperandKind::integer) == 31);
  CHECK(bits("0U", OperandKind::integer) == 0);
  CHECK(bits("-9223372036854775808", OperandKind::integer) == uint64_t{1} << 63);
  CHECK(bits("WARP_SZ", OperandKind::integer) == 32);
  CHECK(bits("0f3F800000", OperandKind::float32) == 0x3F800000);
  CHECK(bits("0fFF800000", OperandKind::float32) == 0xFF800000);
  CHECK(bits("0d3FF0000000000000", OperandKind::float64) == 0x3FF0000000000000);
  CHECK(bits("1.0", OperandKind::float64) == 0x3FF0000000000000);
  CHECK(bits("-1.5e-1", OperandKind::float64) == 0xBFC3333333333333);
}

TEST_CASE("parser: addresses") {
  const Kernel k = parse_kernel(
      "ld.global.f32 %f1, [%d1];\n ld.global.f32 %f1, [%d1+-24];\n ld.param.u64 %d1, [a];\n ld.param.u32 %r1, [n+2];\n"
      "st.shared.u32 [s+4], %r1;\n ld.shared.u32 %r1, [16];\n"
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%r1], [%d1, {%r2, %r3}], [%r4+8];",
      ".shared .u32 s[4];\n");
  const auto address = [&](size_t i, size_t operand) -> const Operand& {
    REQUIRE(k.at(i).operands[operand].kind == OperandKind::address);
    return k.at(i).operands[operand];
  };
  CHECK(name(k, address(0, 1).elements[0]) == "%d1");
  CHECK(address(0, 1).offset == 0);
  CHECK(address(1, 1).offset == -24);
  CHECK(address(2, 1).elements[0].symbol == SymbolKind::parameter);
  CHECK(address(2, 1).elements[0].index == 0);
  CHECK(address(3, 1).elements[0].index == 1);
  CHECK(address(3, 1).offset == 2);
  CHECK(address(4, 0).elements[0].symbol == SymbolKind::module_variable);
  CHECK(address(4, 0).offset == 4);
  CHECK(address(5, 1).elements[0].bits == 16);
  const Statement& bulk = k.at(6);
  CHECK(bulk.has("mbarrier::complete_tx::bytes"));
  CHECK(bulk.has("2d"));
  REQUIRE(bulk.operands.size() == 3);
  REQUIRE(address(6, 1).elements.size() == 2);
  CHECK(address(6, 1).elements[1].kind == OperandKind::vector);
  CHECK(name(k, address(6, 1).elements[1].elements[1]) == "%r3");
  CHECK(address(6, 2).offset == 8);
}

TEST_CASE("parser: vectors, pairs, sinks, negated predicates, symbols, special registers") {
  const Kernel k = parse_kernel(
      "mov.b64 {%r1, _}, %d1;\n shfl.sync.idx.b32 %r1|%p1, %r2, 0, 31, -1;\n elect.sync _|%p2, -1;\n"
      "setp.eq.and.s32 %p1|%p2, %r1, %r2, !%p3;\n mov.u64 %d1, t+4;\n mov.u32 %r1, %tid.x;\n mov.b32 %r1, %envreg31;\n"
      "mov.u64 %d1, %clock64;",
      ".global .u32 t[4];\n");
  const Operand& vector = k.at(0).operands[0];
  REQUIRE(vector.kind == OperandKind::vector);
  CHECK(name(k, vector.elements[0]) == "%r1");
  CHECK(vector.elements[1].kind == OperandKind::sink);
  const Operand& pair = k.at(1).operands[0];
  REQUIRE(pair.kind == OperandKind::pair);
  CHECK(name(k, pair.elements[0]) == "%r1");
  CHECK(name(k, pair.elements[1]) == "%p1");
  CHECK(k.at(2).operands[0].elements[0].kind == OperandKind::sink);
  CHECK(k.at(3).operands[3].negated);
  CHECK_FALSE(k.at(3).operands[0].elements[0].negated);
  CHECK(k.at(4).operands[1].kind == OperandKind::symbol);
  CHECK(k.at(4).operands[1].offset == 4);
  CHECK(k.at(5).operands[1].special == SpecialRegister::tid_x);
  CHECK(k.at(6).operands[1].special == SpecialRegister::envreg);
  CHECK(k.at(6).operands[1].offset == 31);
  CHECK(k.at(7).operands[1].special == SpecialRegister::clock64);
}

TEST_CASE("parser: every special register is found by its name") {
  for (int i = 0; i <= static_cast<int>(SpecialRegister::envreg); ++i) {
    const auto special = static_cast<SpecialRegister>(i);
    CHECK(special_register_named(special_register_name(special)) == special);
  }
  // One of each group of the enumeration: its order must be that of the names.
  CHECK(special_register_name(SpecialRegister::nctaid_z) == "%nctaid.z");
  CHECK(special_register_name(SpecialRegister::gridid) == "%gridid");
  CHECK(special_register_name(SpecialRegister::cluster_ctarank) == "%cluster_ctarank");
  CHECK(special_register_name(SpecialRegister::lanemask_gt) == "%lanemask_gt");
  CHECK(special_register_name(SpecialRegister::globaltimer_hi) == "%globaltimer_hi");
  CHECK(special_register_name(SpecialRegister::reserved_smem_offset_cap) == "%reserved_smem_offset_cap");
}

TEST_CASE("parser: types by name") {
  for (int i = 0; i <= static_cast<int>(Type::f64); ++i) CHECK(type_bits(static_cast<Type>(i)) > 0);
  CHECK(type_named("bf16x2") == Type::bf16x2);
  CHECK(type_bits(Type::bf16x2) == 32);
  CHECK(type_named("f64") == Type::f64);
  CHECK(type_bits(Type::b128) == 128);
  CHECK(type_bits(Type::pred) == 1);
  CHECK_FALSE(type_named("u128"));
}

TEST_CASE("parser: registers of an inner scope hide those outside, and end with it") {
  const Kernel k = parse_kernel(
      "{ .reg .b32 %r1, x<2>; mov.b32 %r1, x1; { .reg .b64 x1; mov.b64 x1, 0; } mov.b32 x0, 3; }\n mov.b32 %r1, 4;");
  const auto target = [&](size_t i) { return k.at(i).operands[0].reg; };
  CHECK(target(0) != target(3));
  CHECK(k.function->registers[target(0)].number == -1);
  CHECK(k.function->registers[target(3)].number == 1);
  CHECK(name(k, k.at(0).operands[1]) == "x1");
  CHECK(k.function->registers[target(1)].type == Type::b64);
  CHECK(name(k, k.at(2).operands[0]) == "x0");
}

TEST_CASE("parser: a register's number is what stands behind the prefix of its range") {
  // %r12 could be 2 of %r1<…> or 12 of %r<99>: both are declared, and neither hides 12 of %r.
  const Kernel k = parse_kernel("{ .reg .b64 %r1<2>; mov.b32 %r12, 0; mov.b64 %r11, 0; }");
  CHECK(k.function->registers[k.at(0).operands[0].reg].number == 12);
  CHECK(k.function->registers[k.at(1).operands[0].reg].type == Type::b64);
}

TEST_CASE("parser: labels forward, backward, of the scope around, and alike in two scopes") {
  const Kernel k = parse_kernel(
      "top: mov.b32 %r1, 0;\n"           // 0
      "{ bra l; mov.b32 %r1, 1; l: }\n"  // 1, 2 | l = 3
      "{ l: @%p1 bra l; bra end; }\n"    // l = 3, 4
      "@%p1 bra top;\n"                  // 5
      "end:");                           // 6: the ret that is added
  const auto target = [&](size_t i) { return k.at(i).operands[0].target; };
  CHECK(target(1) == 3);
  CHECK(target(3) == 3);
  CHECK(target(4) == 6);
  CHECK(target(5) == 0);
  REQUIRE(k.function->body.size() == 7);
  CHECK(k.at(6).mnemonic == "ret");
}

TEST_CASE("parser: bodies end in an instruction that does not fall through") {
  CHECK(parse_kernel("").function->body.size() == 1);
  CHECK(parse_kernel("ret;").function->body.size() == 1);
  CHECK(parse_kernel("trap;").function->body.size() == 1);
  CHECK(parse_kernel("@%p1 ret;").function->body.size() == 2);
  CHECK(parse_kernel("ret; behind:").function->body.size() == 2);
  CHECK(parse_kernel("top: bra.uni top;").function->body.size() == 1);
  CHECK(parse_kernel("mov.b32 %r1, 0;").function->body.size() == 2);
}

TEST_CASE("parser: branch tables before and behind their use") {
  for (const bool before : {true, false}) {
    const std::string table = "table: .branchtargets one, two, one;\n";
    const Kernel k = parse_kernel("{ " + (before ? table : "") + "brx.idx %r1, table;\n one: ret;\n two: ret; " +
                                  (before ? "" : table) + " }");
    const Operand& labels = k.at(0).operands[1];
    REQUIRE(labels.kind == OperandKind::vector);
    REQUIRE(labels.elements.size() == 3);
    CHECK(labels.elements[0].target == 1);
    CHECK(labels.elements[1].target == 2);
    CHECK(labels.elements[2].target == 1);
    CHECK(labels.elements[2].kind == OperandKind::label);
  }
}

TEST_CASE("parser: calls by name") {
  const Kernel k = parse_kernel(
      "{ .param .b64 p0; st.param.b64 [p0+0], %d1; .param .align 8 .b8 r0[12];\n call.uni (r0), f, (p0);\n"
      "ld.param.b32 %r1, [r0+8]; }\n { .param .b32 p0; call g, (p0); } call.uni h;",
      ".func (.param .align 8 .b8 r[12]) f(.param .b64 a);\n .func g(.param .b32 a);\n .func h();\n");
  const Statement& f = k.at(1);
  CHECK(f.has("uni"));
  REQUIRE(f.operands.size() == 3);
  REQUIRE(f.operands[0].elements.size() == 1);
  CHECK(f.operands[0].elements[0].symbol == SymbolKind::local_variable);
  CHECK(k.module->functions[f.operands[1].index]->name == "f");
  CHECK(f.operands[2].elements[0].index == 0);
  const Statement& g = k.at(3);
  CHECK(g.operands[0].elements.empty());
  CHECK(k.module->functions[g.operands[1].index]->name == "g");
  CHECK(g.operands[2].elements.size() == 1);
  const Statement& h = k.at(4);
  REQUIRE(h.operands.size() == 3);
  CHECK(h.operands[2].elements.empty());
  // The second block's area may lie where the first one's lay.
  CHECK(k.function->variables[1].offset == 8);
  CHECK(k.function->variables[2].offset == 0);
  CHECK(k.function->call_parameter_bytes == 20);
}

TEST_CASE("parser: calls through pointers") {
  const Kernel k = parse_kernel(
      "{ .param .b32 p0; .param .b32 r0;\n proto : .callprototype (.param .b32 _) _ (.param .b32 _);\n"
      "call (r0), %d1, (p0), proto; }");
  const Statement& call = k.at(0);
  REQUIRE(call.operands.size() == 4);
  CHECK(call.operands[1].kind == OperandKind::reg);
  CHECK(call.operands[3].symbol == SymbolKind::prototype);
  REQUIRE(k.function->prototypes.size() == 1);
  CHECK(k.function->prototypes[0].parameters.size() == 1);
  CHECK(k.function->prototypes[0].returns[0].type == Type::b32);
}

TEST_CASE("parser: static shared and local variables") {
  const Kernel k = parse_kernel(
      ".local .align 16 .b8 depot[20]; .local .b32 x; .shared .align 8 .b8 s[24];\n mov.u64 %d1, depot; mov.u32 %r1, "
      "s;");
  CHECK(k.function->variables[1].offset == 20);
  CHECK(k.function->local_bytes == 24);
  CHECK(k.function->local_alignment == 16);
  CHECK(k.function->variables[2].space == StateSpace::shared);
  CHECK(k.at(1).operands[1].index == 2);
}

TEST_CASE("parser: source lines chain through inlined calls") {
  const Kernel k = parse_kernel(
      "mov.b32 %r1, 0;\n .loc 1 40 3\n mov.b32 %r1, 1;\n"
      ".loc 2 12 5, function_name $L__info_string0, inlined_at 1 40 3\n mov.b32 %r1, 2;\n"
      ".loc 3 7 1, function_name $L__info_string1+0, inlined_at 2 12 5\n mov.b32 %r1, 3;\n"
      ".loc 1 40 3\n mov.b32 %r1, 4;",
      ".file 1 \"/src/gemm.cu\"\n .file 2 \"mma.h\"\n"
      ".section .debug_str { $L__info_string0: .b8 102,0 }\n");
  const auto place = [&](size_t i) { return describe_location(*k.module, k.at(i).location); };
  CHECK(place(0) == "unknown line");
  CHECK(place(1) == "gemm.cu:40");
  CHECK(place(2) == "mma.h:12, inlined at gemm.cu:40");
  CHECK(place(3) == "file 3:7, inlined at mma.h:12, inlined at gemm.cu:40");
  CHECK(k.at(4).location == k.at(1).location);
  CHECK(k.module->debug_string(k.module->locations[k.at(2).location].function_label) == "f");
}

TEST_CASE("parser: comments and lone semicolons are nothing") {
  const Kernel k = parse_kernel("// begin inline asm\n;\n{ /* nothing */ ; }\n.pragma \"nounroll\", \"x\";\nret; // }");
  CHECK(k.function->body.size() == 1);
}

TEST_CASE("parser: a body is parsed once") {
  const Kernel k = parse_kernel("mov.b32 %r1, 0;");
  parse_body(*k.module, *k.function);
  CHECK(k.function->body.size() == 2);
}

TEST_CASE("parser: what is not understood names kernel, source line and text") {
  CHECK(error_of([] { parse_kernel(".loc 1 40 3\n add.s32 %r1, %r2, %x3;", ".file 1 \"/src/gemm.cu\"\n"); }) ==
        "test:9: unknown name '%x3'; in kernel k, at gemm.cu:40: `add.s32 %r1, %r2, %x3;`");
  const auto refused = [](const std::string& body, const std::string& message) {
    INFO(body);
    const std::string error = error_of([&] { parse_kernel(body); });
    CHECK(error.find(message) != std::string::npos);
  };
  refused("bra nowhere;", "unknown label 'nowhere'");
  refused("{ inner: } bra inner;", "unknown label 'inner'");
  refused("brx.idx %r1, nowhere;", "unknown label 'nowhere'");
  refused("table: .branchtargets nowhere; brx.idx %r1, table;", "unknown label 'nowhere'");
  refused("twice: twice: ret;", "'twice' is declared twice");
  refused(".reg .b32 %r<3>;", "'%r' is declared twice");
  refused(".reg .b32 x, x;", "'x' is declared twice");
  refused(".shared .b32 x, x;", "'x' is declared twice");
  refused("@%r1 bra l; l:", "guard '%r1' is not a predicate");
  refused("@%p77 ret;", "guard '%p77' is not a predicate");
  refused("mov.b32 %r99, 0;", "unknown name '%r99'");
  refused("mov.b32 %r01, 0;", "unknown name '%r01'");
  refused("mov.b32 %r1, !%r2;", "'!' stands before predicates only");
  refused("shfl.sync.idx.b32 %r1|3, %r2, 0, 31, -1;", "expected operand");
  refused("mov.u32 %r1, %tid;", "unknown name '%tid'");
  refused("mov.u32 %r1, %envreg32;", "unknown name '%envreg32'");
  refused("ld.global.u32 %r1, [%tid.x];", "not an address");
  refused("ld.global.u32 %r1, [%d1+%r1];", "unknown operand");
  refused("mov.u32 %r1, (1+2);", "expected ')'");
  refused("mov.u32 %r1, ~1.5;", "operator on a float");
  refused("call (%r1), %d1, (%r2);", "indirect call without a prototype");
  refused("call %f1x;", "unknown name '%f1x'");
  refused("call 3;", "call without a function");
  refused("mov.u32 %r1 %r2;", "expected ';'");
  refused(".shared .u32 x = 3;", "initialiser inside a function");
  refused(".global .u32 x;", "unknown directive '.global'");
  refused(".reg .v4 .f32 x;", "unknown type '.v4'");
}
