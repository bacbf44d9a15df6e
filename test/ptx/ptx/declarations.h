// Declarations of storage, the same at module scope, in signatures and in bodies.
#pragma once
#include <vector>

#include "lexer.h"
#include "module.h"

namespace foretoken::ptx {

// Takes a directive that names a type; fails on any other token.
Type expect_type(Lexer& lexer);

// From behind the state space: `.align 16 .b8 a[4][8] = {1, 2}, b;` up to and with the ';'. Several declarators share
// type and alignment.
std::vector<Variable> parse_variables(Lexer& lexer, StateSpace space, bool is_extern);

// `(.param .align 8 .b8 a[24], .reg .b32 b)`, offsets assigned; `bytes` becomes the area's size. Registers, which only
// functions take, are appended to `registers`.
std::vector<Parameter> parse_parameters(Lexer& lexer, uint32_t& bytes, std::vector<Register>& registers);

// From behind `.pragma`: hints to the compiler, nothing we use.
void skip_pragma(Lexer& lexer);

// Offset of something of this size and alignment at the end of an area, which grows by it.
uint32_t append(uint32_t& bytes, uint64_t size, uint32_t alignment);

}  // namespace foretoken::ptx
