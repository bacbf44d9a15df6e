// Module scope: variables and their initial bytes, signatures, bounds, files, and what is refused.
#include <cstring>

#include "doctest.h"
#include "parser_text.h"

using namespace foretoken::ptx;

namespace {

const Variable& only_variable(const Module& module) {
  REQUIRE(module.variables.size() == 1);
  return module.variables[0];
}

template <class T>
T initial_value(const Variable& variable, size_t index = 0) {
  T value;
  REQUIRE(variable.initializer.size() >= (index + 1) * sizeof(T));
  std::memcpy(&value, variable.initializer.data() + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

TEST_CASE("parser: header") {
  const auto module = parse_items("");
  CHECK(module->version == "9.0");
  CHECK(module->target == "sm_90a");
}

TEST_CASE("parser: text from a fatbin ends in zero bytes") {
  const auto module =
      parse_module(std::string(".version 8.0\n.target sm_80, debug\n.address_size 64\n\0\0", 50), "test");
  CHECK(module->target == "sm_80");
}

TEST_CASE("parser: bytes shorter than the variable are followed by zeros") {
  const auto module = parse_items(".visible .global .align 4 .b8 t[8] = {1, 0x2, 255};");
  const Variable& v = only_variable(*module);
  CHECK(v.name == "t");
  CHECK(v.space == StateSpace::global);
  CHECK(v.alignment == 4);
  CHECK(v.size == 8);
  CHECK(v.initializer == std::vector<uint8_t>{1, 2, 255, 0, 0, 0, 0, 0});
}

TEST_CASE("parser: initialisers by type") {
  CHECK(initial_value<int64_t>(only_variable(*parse_items(".global .u64 x = -5;"))) == -5);
  CHECK(initial_value<int16_t>(only_variable(*parse_items(".global .s16 x[2] = {3, -7};")), 1) == -7);
  CHECK(initial_value<float>(only_variable(*parse_items(".const .f32 x = 0f3FC00000;"))) == 1.5f);
  CHECK(initial_value<float>(only_variable(*parse_items(".const .f32 x = -1.5;"))) == -1.5f);
  CHECK(initial_value<double>(only_variable(*parse_items(".const .f64 x[2] = {1.0, 0dBFE0000000000000};")), 1) == -0.5);
  CHECK(initial_value<uint32_t>(only_variable(*parse_items(".global .u32 x[2][2] = {{1, 2}, {3, 017}};")), 3) == 15);
  CHECK(initial_value<uint32_t>(only_variable(*parse_items(".global .u32 x[] = {0b101, 0xFFU};")), 1) == 255);
}

TEST_CASE("parser: several variables in one declaration") {
  const auto module = parse_items(".global .align 16 .f32 a, b[3];");
  REQUIRE(module->variables.size() == 2);
  CHECK(module->variables[0].size == 4);
  CHECK(module->variables[1].size == 12);
  CHECK(module->variables[1].alignment == 16);
  CHECK(module->variables[1].initializer.empty());
}

TEST_CASE("parser: vectors are aligned as a whole") {
  const auto module = parse_items(".global .v4 .f32 a[2];");
  const Variable& v = only_variable(*module);
  CHECK(v.alignment == 16);
  CHECK(v.size == 32);
}

TEST_CASE("parser: addresses in initialisers") {
  const auto module = parse_items(
      ".global .b8 t[16]; .func f(.param .b32 x);\n"
      ".global .align 8 .u64 p[5] = {generic(t)+12, t+-4, f, 7, generic(t)};");
  const Variable& p = module->variables[module->variable_index.at("p")];
  REQUIRE(p.relocations.size() == 4);
  CHECK(p.relocations[0].symbol == "t");
  CHECK(p.relocations[0].generic);
  CHECK(p.relocations[0].addend == 12);
  CHECK(p.relocations[1].offset == 8);
  CHECK_FALSE(p.relocations[1].generic);
  CHECK(p.relocations[1].addend == -4);
  CHECK(p.relocations[2].symbol == "f");
  CHECK(p.relocations[2].width == 8);
  CHECK(p.relocations[3].offset == 32);
  CHECK(initial_value<uint64_t>(p, 3) == 7);
  CHECK(initial_value<uint64_t>(p, 0) == 0);
}

TEST_CASE("parser: addresses byte by byte, as in a packed struct") {
  const auto module =
      parse_items(".global .b8 t[16]; .global .align 1 .u8 k[3] = {1, 0XFF(generic(t)+4), 0xFF0000(t)};");
  const Variable& k = module->variables[module->variable_index.at("k")];
  REQUIRE(k.relocations.size() == 2);
  CHECK(k.relocations[0].offset == 1);
  CHECK(k.relocations[0].width == 1);
  CHECK(k.relocations[0].shift == 0);
  CHECK(k.relocations[0].addend == 4);
  CHECK(k.relocations[1].shift == 16);
}

TEST_CASE("parser: dynamic shared memory") {
  const auto module = parse_items(".extern .shared .align 16 .b8 dynamic[];");
  CHECK(only_variable(*module).is_extern);
  CHECK(only_variable(*module).size == 0);
  CHECK(only_variable(*module).alignment == 16);
}

TEST_CASE("parser: a definition replaces the declaration before it, and a later declaration changes nothing") {
  const auto module = parse_items(".extern .global .u32 x; .visible .global .u32 x = 3; .extern .global .u32 x;");
  CHECK_FALSE(only_variable(*module).is_extern);
  CHECK(initial_value<uint32_t>(only_variable(*module)) == 3);
}

TEST_CASE("parser: a kernel's parameters are laid out as in C") {
  const auto module = parse_items(
      ".entry k(.param .u64 .ptr .global .align 16 a, .param .u8 b, .param .align 8 .b8 s[24], .param .f32 c) { ret; "
      "}");
  const Function& k = *module->find_function("k");
  CHECK(k.is_kernel);
  REQUIRE(k.parameters.size() == 4);
  CHECK(k.parameters[1].offset == 8);
  CHECK(k.parameters[2].offset == 16);
  CHECK(k.parameters[2].size == 24);
  CHECK(k.parameters[2].alignment == 8);
  CHECK(k.parameters[3].offset == 40);
  CHECK(k.parameter_bytes == 44);
}

TEST_CASE("parser: launch bounds and clusters") {
  const auto module = parse_items(
      ".entry a() .maxntid 128, 2 .minnctapersm 3 .maxnreg 64 { ret; }\n"
      ".entry b .reqntid 384 .explicitcluster .reqnctapercluster 2, 1, 1 .maxclusterrank 8 { ret; }");
  const LaunchBounds& a = module->find_function("a")->bounds;
  CHECK(a.max_threads[0] == 128);
  CHECK(a.max_threads[1] == 2);
  CHECK(a.max_threads[2] == 1);
  CHECK(a.min_blocks == 3);
  CHECK(a.max_registers == 64);
  CHECK(a.required_threads[0] == 0);
  CHECK_FALSE(a.explicit_cluster);
  const LaunchBounds& b = module->find_function("b")->bounds;
  CHECK(b.required_threads[0] == 384);
  CHECK(b.required_threads[2] == 1);
  CHECK(b.explicit_cluster);
  CHECK(b.cluster[0] == 2);
  CHECK(b.max_cluster_rank == 8);
}

TEST_CASE("parser: functions declared, defined, aliased") {
  const auto module = parse_items(
      ".func (.param .b32 r) f(.param .b64 a, .param .b32 b);\n"
      ".extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n"
      ".extern .func stop() .noreturn;\n"
      ".weak .func (.param .b32 r) f(.param .b64 a, .param .b32 b) { ret; }\n"
      ".func (.reg .f32 y) g(.reg .f32 x) { mov.f32 y, x; ret; }\n"
      ".alias h, f;");
  const Function& f = *module->find_function("f");
  CHECK_FALSE(f.is_declared_only);
  CHECK_FALSE(f.is_kernel);
  CHECK(f.parameter_bytes == 12);
  CHECK(f.return_bytes == 4);
  CHECK(module->find_function("h") == &f);
  CHECK(module->find_function("vprintf")->is_declared_only);
  CHECK(module->find_function("stop")->is_noreturn);
  CHECK(module->find_function("nothing") == nullptr);
  const Function& g = *module->find_function("g");
  CHECK(g.returns[0].reg == 0);
  CHECK(g.parameters[0].reg == 1);
  CHECK(g.parameter_bytes == 0);
}

TEST_CASE("parser: files and names of inlined functions, as they stand behind the code") {
  const auto module = parse_items(
      ".file 1 \"/src/a.cu\"\n.file 2 \"b.h\", 12, 34\n"
      ".section .debug_info { .b8 1 { } \"}\" // }\n }\n"
      ".section .debug_str\n{\n$L__info_string0:\n.b8 95,90\n.b8 51,0\n$L__info_string1:\n.b8 120,0\n}\n");
  CHECK(module->files.at(1) == "/src/a.cu");
  CHECK(module->files.at(2) == "b.h");
  CHECK(module->debug_string("$L__info_string0") == "_Z3");
  CHECK(module->debug_string("$L__info_string1") == "x");
  CHECK(module->debug_string("unknown") == "unknown");
}

TEST_CASE("parser: braces in comments and strings of a body that is not parsed yet") {
  const auto module =
      parse_items(".entry k() { // } callseq {\n /* } */ .pragma \"}\"; { ret; } }\n.global .u32 behind;");
  CHECK(module->variables.size() == 1);
  parse_body(*module, *module->find_function("k"));
  CHECK(module->find_function("k")->body.size() == 1);
}

TEST_CASE("parser: what is not understood at module scope names its line") {
  CHECK(error_of([] { parse_items(".texref t;"); }) == "test:4: unknown directive '.texref': `.texref t;`");
  const auto refused = [](const std::string& items, const std::string& message) {
    INFO(items);
    const std::string error = error_of([&] { parse_items(items); });
    CHECK(error.find(message) != std::string::npos);
  };
  refused(".global .f16x3 x;", "unknown type '.f16x3'");
  refused(".global .align 3 .b8 x;", "power of two");
  refused(".global .u32 x[2] = {1, 2, 3};", "longer than its variable");
  refused(".global .u32 x[];", "unknown length");
  refused(".global .u32 x; .global .u32 x;", "declared twice");
  refused(".global .u32 x = 1.5;", "another type");
  refused(".global .u32 x = 0xFF(x);", "one byte of an address");
  refused(".global .u32 x = 12ab;", "not a number");
  refused(".global .f32 x = 0f3F8;", "0f takes 8");
  refused(".entry k() { ret; } .entry k() { ret; }", "defined twice");
  refused(".entry k() .maxdreg 3 { ret; }", "unknown directive '.maxdreg'");
  refused(".entry k() { ret;", "without '}'");
  refused(".alias a, b;", "alias of an unknown function");
  refused("/* no end", "comment without end");
  refused(".file 1 \"no end", "string without end");
  CHECK(error_of([] { parse_module(".address_size 32", "test"); }).find("64-bit") != std::string::npos);
}
