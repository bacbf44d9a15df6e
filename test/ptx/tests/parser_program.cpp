// A kernel with all it can call: frames, memory, and immediate operands.
#include <bit>

#include "doctest.h"
#include "parser_text.h"
#include "ptx/program.h"

using namespace foretoken::ptx;

namespace {

struct Built {
  std::unique_ptr<Module> module;
  Program program;
  std::vector<std::string_view> names() const {
    std::vector<std::string_view> found;
    for (const FunctionPlan& plan : program.functions) found.push_back(plan.function->name);
    return found;
  }
  const FunctionPlan& plan(std::string_view name) const {
    return program.functions.at(program.plan_of.at(module->find_function(name)));
  }
};

Built build(const std::string& items) {
  Built built{parse_items(items), {}};
  built.program = build_program(*built.module, *built.module->find_function("k"));
  return built;
}

const std::string kPointerCall = "{ .reg .b64 f; ld.global.u64 f, [pointers]; p: .callprototype _ (); call f, p; }";

}  // namespace

TEST_CASE("program: functions that are called, each once, with frames of their own") {
  const Built b = build(
      ".extern .func printed(); .func g() { .reg .b32 x; .reg .pred p; .local .b32 l; mov.b32 x, 0; mov.pred p, 1; "
      "ret; }\n"
      ".func f() { .reg .b32 x; .reg .pred p; .local .b8 l[6]; mov.b32 x, 0; mov.pred p, 1; call g; ret; }\n"
      ".func unused() { frob; ret; }\n"
      ".entry k() { .reg .b64 x; .reg .b32 y; mov.b64 x, 0; mov.b32 y, 1; call f; call g; call printed; ret; }");
  CHECK(b.names() == std::vector<std::string_view>{"k", "f", "g"});
  CHECK(b.plan("k").first_row == 0);
  CHECK(b.plan("f").first_row == 4);
  CHECK(b.plan("g").first_row == 8);
  CHECK(b.program.rows == 9);
  CHECK(b.plan("f").first_predicate == 0);
  CHECK(b.plan("g").first_predicate == 1);
  CHECK(b.program.predicates == 2);
  CHECK(b.plan("f").local_base == 0);
  CHECK(b.plan("g").local_base == 8);
  CHECK(b.program.local_bytes == 12);
}

TEST_CASE("program: parameters, returns and call variables have places of their own in the call area") {
  const Built b = build(
      ".func (.param .b32 r) f(.param .b64 a, .param .b32 c) { ret; }\n"
      ".entry k(.param .u64 a) { { .param .b64 x; .param .b32 y; .param .b32 z; call (z), f, (x, y); } ret; }");
  CHECK(b.plan("k").call_parameter_base == 0);
  CHECK(b.plan("k").parameter_base == 0);
  CHECK(b.plan("f").parameter_base == 16);
  CHECK(b.plan("f").return_base == 32);
  CHECK(b.program.call_area_bytes == 36);
}

TEST_CASE("program: a call through a pointer may reach every function whose address is taken") {
  const std::string functions =
      ".func a() { ret; } .func b() { ret; } .func c() { ret; }\n .global .u64 pointers[2] = {a, 0};\n";
  const Built by_table = build(functions + ".entry k() { " + kPointerCall + " ret; }");
  CHECK(by_table.names() == std::vector<std::string_view>{"k", "a"});
  const Built by_mov = build(functions + ".entry k() { .reg .b64 d; mov.u64 d, b; " + kPointerCall + " ret; }");
  CHECK(by_mov.names().size() == 3);
  CHECK(by_mov.program.plan_of.contains(by_mov.module->find_function("b")));
  const Built without_pointers = build(functions + ".entry k() { .reg .b64 d; mov.u64 d, b; ret; }");
  CHECK(without_pointers.names() == std::vector<std::string_view>{"k"});
}

TEST_CASE("program: recursion is refused") {
  CHECK(error_of([] {
          build(".func f() { call f; ret; } .entry k() { call f; ret; }");
        }).find("recursion is not supported; in function f") != std::string::npos);
  CHECK(error_of([] {
          build(".func g(); .func f() { call g; ret; } .func g() { call f; ret; } .entry k() { call f; ret; }");
        }).find("recursion") != std::string::npos);
}

TEST_CASE("program: shared memory holds what is mentioned, static before dynamic") {
  const Built b = build(
      ".shared .align 4 .b8 unused[100]; .shared .align 16 .b8 a[20]; .extern .shared .align 128 .b8 dynamic[];\n"
      ".extern .shared .align 8 .b8 other[];\n"
      ".func f() { .shared .align 8 .b8 s[8]; .reg .b32 x; mov.u32 x, s; ret; }\n"
      ".entry k() { .reg .b32 x; .shared .b8 t; st.shared.u8 [t], x; ld.shared.u32 x, [a+4]; mov.u32 x, dynamic;\n"
      "mov.u32 x, other; call f; ret; }");
  const auto offset = [&](std::string_view name) {
    return b.program.shared_offset.at(&b.module->variables[b.module->variable_index.at(name)]);
  };
  CHECK(b.program.shared_offset.at(&b.module->find_function("k")->variables[0]) == 0);
  CHECK(offset("a") == 16);
  CHECK(b.program.shared_offset.at(&b.module->find_function("f")->variables[0]) == 40);
  CHECK(b.program.static_shared_bytes == 48);
  CHECK(b.program.uses_dynamic_shared);
  CHECK(offset("dynamic") == 128);
  CHECK(offset("other") == 128);
  CHECK_FALSE(b.program.shared_offset.contains(&b.module->variables[b.module->variable_index.at("unused")]));
  const Built none = build(".entry k() { ret; }");
  CHECK_FALSE(none.program.uses_dynamic_shared);
  CHECK(none.program.static_shared_bytes == 0);
}

TEST_CASE("immediates: bits for the instruction's type, as ptxas takes them") {
  const auto integer = [](int64_t value, Type type) {
    Operand operand;
    operand.kind = OperandKind::integer;
    operand.bits = static_cast<uint64_t>(value);
    return immediate_bits(operand, type);
  };
  const auto real = [](OperandKind kind, uint64_t bits, Type type) {
    Operand operand;
    operand.kind = kind;
    operand.bits = bits;
    return immediate_bits(operand, type);
  };
  CHECK(integer(-1, Type::s16) == 0xFFFF);
  CHECK(integer(-1, Type::u32) == 0xFFFFFFFF);
  CHECK(integer(-1, Type::b64) == UINT64_MAX);
  CHECK(integer(2, Type::pred) == 1);
  CHECK(integer(0, Type::pred) == 0);
  CHECK(real(OperandKind::float32, 0x3FC00000, Type::f32) == 0x3FC00000);
  CHECK(real(OperandKind::float32, 0x3FC00000, Type::b32) == 0x3FC00000);
  CHECK(real(OperandKind::float32, 0x3FC00000, Type::f64) == std::bit_cast<uint64_t>(1.5));
  CHECK(real(OperandKind::float64, std::bit_cast<uint64_t>(1.5), Type::f32) == 0x3FC00000);
  CHECK(real(OperandKind::float64, std::bit_cast<uint64_t>(0.1), Type::f32) == std::bit_cast<uint32_t>(0.1f));
  CHECK(real(OperandKind::float64, std::bit_cast<uint64_t>(1.5), Type::f64) == std::bit_cast<uint64_t>(1.5));
  CHECK(real(OperandKind::float64, std::bit_cast<uint64_t>(1.5), Type::b64) == std::bit_cast<uint64_t>(1.5));
  CHECK_THROWS_AS(integer(1, Type::f32), ParseError);
  CHECK_THROWS_AS(integer(0x3C00, Type::f16), ParseError);
  CHECK_THROWS_AS(real(OperandKind::float32, 0, Type::u32), ParseError);
  CHECK_THROWS_AS(real(OperandKind::float32, 0, Type::b64), ParseError);
  CHECK_THROWS_AS(real(OperandKind::float64, 0, Type::b32), ParseError);
  CHECK_THROWS_AS(real(OperandKind::float64, 0, Type::bf16), ParseError);
  CHECK_THROWS_AS(immediate_bits(Operand(), Type::b32), ParseError);
}
