// A PTX module as written: what the parser makes of the text and everything after it reads.
//   text --parser.h--> Module, Function --control_flow.h, registers.h, program.h--> Program --machine--> instructions
// Names are views into Module::text. Nothing is folded or renamed but what scoping demands: registers, labels and
// symbols are resolved to indices, since inline assembly declares the same names in many `{ }`.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken::ptx {

// "vector_add.ptx:812: …; in kernel K, at gemm.cu:40: `text of the instruction`". The only error the front end throws.
struct ParseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Declared types of registers, variables and parameters. The type an instruction works in is among its modifiers.
enum class Type : uint8_t {
  pred,
  b8,
  b16,
  b32,
  b64,
  b128,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  f16x2,
  bf16,
  bf16x2,
  f32,
  f64
};
std::optional<Type> type_named(std::string_view name);  // "u32", without the dot; nullopt if there is none
int type_bits(Type type);                               // pred: 1

enum class StateSpace : uint8_t { global, constant, shared, local, param };

// The read-only registers, in the order of special_register_name; spelled as in PTX without '%', '.' as '_'.
enum class SpecialRegister : uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  smid,
  nsmid,
  gridid,
  is_explicit_cluster,
  clusterid_x,
  clusterid_y,
  clusterid_z,
  nclusterid_x,
  nclusterid_y,
  nclusterid_z,
  cluster_ctaid_x,
  cluster_ctaid_y,
  cluster_ctaid_z,
  cluster_nctaid_x,
  cluster_nctaid_y,
  cluster_nctaid_z,
  cluster_ctarank,
  cluster_nctarank,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  clock,
  clock_hi,
  clock64,
  globaltimer,
  globaltimer_lo,
  globaltimer_hi,
  total_smem_size,
  aggr_smem_size,
  dynamic_smem_size,
  reserved_smem_offset_begin,
  reserved_smem_offset_end,
  reserved_smem_offset_cap,
  envreg,  // %envreg0 … %envreg31: the number is in Operand::offset
};
std::string_view special_register_name(SpecialRegister special);  // "%tid.x"
std::optional<SpecialRegister> special_register_named(std::string_view name);

// A symbol's storage. Variables at module scope: .global, .const, .shared; inside functions: .shared, .local and,
// around calls, .param. Offsets within shared memory are per kernel: see Program.
struct Variable {
  std::string_view name;
  StateSpace space = StateSpace::global;
  Type type = Type::b8;
  uint32_t alignment = 1;  // bytes
  uint64_t size = 0;       // bytes; 0 for `extern .shared .b8 name[]`, which is the block's dynamic shared memory
  bool is_extern = false;  // .extern: defined elsewhere (dynamic shared memory, or another module: an error to use)
  // Initialiser: empty means zeros, otherwise exactly `size` bytes, with zeros where a relocation is to be added.
  std::vector<uint8_t> initializer;
  struct Relocation {
    uint64_t offset = 0;      // where in the initialiser, bytes
    uint8_t width = 8;        // bytes written there
    uint8_t shift = 0;        // mask(…) initialisers: (address + addend) >> shift, its low `width` bytes
    std::string_view symbol;  // a variable of the module, or a function
    bool generic = false;     // generic(symbol): the generic address, not the address within its space
    int64_t addend = 0;
  };
  std::vector<Relocation> relocations;
  // .param inside a function body, .local: byte offset in the thread's call-parameter area or its local memory.
  uint32_t offset = 0;
};

// A parameter of a kernel or function, at `offset` in its parameter area (C layout: each at its alignment).
struct Parameter {
  std::string_view name;
  Type type = Type::b8;         // .b8 for arrays (structs)
  uint32_t alignment = 1;       // bytes
  uint32_t size = 0;            // bytes: the element's width × array length
  uint32_t offset = 0;          // bytes from the start of the parameter area (return values: of the return area)
  std::optional<uint32_t> reg;  // functions may take registers instead: `.func f(.reg .b32 a)`; index in registers
};

struct Register {
  std::string_view name;  // "%r"; a range `%r<83>` is 83 registers that share it
  int32_t number = -1;    // 12 for %r12; -1 where the declaration had no range
  Type type = Type::b32;
  std::string text() const { return std::string(name) + (number < 0 ? "" : std::to_string(number)); }
};

// Where an instruction comes from. `.loc` at an inlined call chains to the place of the call.
struct SourceLocation {
  uint32_t file = 0;  // key of Module::files; 0 = unknown
  uint32_t line = 0;
  uint32_t column = 0;
  std::string_view function_label;  // label into .debug_str, empty if not inlined; see Module::debug_string
  int32_t inlined_at = -1;          // index in Module::locations of the caller's place, -1 at the outermost
};

enum class OperandKind : uint8_t {
  reg,      // reg, negated for `!%p1`
  pair,     // d|p: elements[0], elements[1]; each a register or sink
  special,  // special
  integer,  // bits: 64 bits two's complement; unary + - ~ folded
  float32,  // bits: 0f3F800000, low 32 bits
  float64,  // bits: 0d…, and decimal literals (1.0), which PTX reads as double whatever the instruction
  symbol,   // symbol (+ offset): its address, or for calls the function itself
  address,  // [base + offset]: elements[0] is the base: reg, symbol or integer. Offset in `offset`.
            // TMA: [base, {c0, c1, …}]: elements[1] is a vector of coordinates, further elements as written
  vector,   // {a, b, …}: elements, any kind, also sinks; in calls the argument lists
  label,    // target: index in Function::body
  sink,     // _
};

enum class SymbolKind : uint8_t {
  parameter,        // Function::parameters[index]
  return_value,     // Function::returns[index]
  local_variable,   // Function::variables[index]: shared, local, or .param of a call
  module_variable,  // Module::variables[index]
  function,         // Module::functions[index]
  prototype,        // Function::prototypes[index], last operand of an indirect call
};

struct Operand {
  OperandKind kind = OperandKind::sink;
  bool negated = false;  // !p; never for other kinds (arithmetic minus is folded into bits)
  SpecialRegister special = SpecialRegister::tid_x;
  SymbolKind symbol = SymbolKind::parameter;
  uint32_t reg = 0;               // kind reg: index in Function::registers
  uint32_t index = 0;             // kind symbol: which, by SymbolKind
  uint32_t target = 0;            // kind label
  int64_t offset = 0;             // bytes added to a symbol or an address
  uint64_t bits = 0;              // integer, float32, float64
  std::vector<Operand> elements;  // pair, address, vector
};

// One instruction. Directives do not appear: labels, .loc, declarations and .pragma are resolved into the rest.
// Operand order is as written but for three, which are normalised:
//   call     operands = [vector of returns, callee (symbol or register), vector of arguments, prototype if indirect]
//   brx.idx  operands = [index, vector of labels]      (.branchtargets resolved)
//   call without returns or arguments has empty vectors there.
// Every body ends in an instruction that does not fall through: `ret` is appended where the text ends without.
struct Statement {
  std::string_view mnemonic;                // "mma"
  std::vector<std::string_view> modifiers;  // "sync", "aligned", "m16n8k16", …, in order, without dots; `::` kept
  std::vector<Operand> operands;
  std::optional<uint32_t> guard;  // @p: register index
  bool guard_negated = false;     // @!p
  int32_t location = -1;          // index in Module::locations, -1 if none
  uint32_t text_offset = 0;       // the instruction's text is module.text[offset, offset + length)
  uint32_t text_length = 0;

  bool has(std::string_view modifier) const {
    for (std::string_view m : modifiers)
      if (m == modifier) return true;
    return false;
  }
};

// `name : .callprototype (.param .b32 _) _ (.param .b64 _);`
struct Prototype {
  std::string_view name;
  std::vector<Parameter> returns;
  std::vector<Parameter> parameters;
};

// Launch bounds and cluster shape of a kernel, as in its directives; 0 where not given.
struct LaunchBounds {
  uint32_t max_threads[3] = {0, 0, 0};       // .maxntid (one given: the others are 1)
  uint32_t required_threads[3] = {0, 0, 0};  // .reqntid
  uint32_t min_blocks = 0;                   // .minnctapersm
  uint32_t max_registers = 0;                // .maxnreg
  bool explicit_cluster = false;             // .explicitcluster
  uint32_t cluster[3] = {0, 0, 0};           // .reqnctapercluster
  uint32_t max_cluster_rank = 0;             // .maxclusterrank
};

// A kernel (.entry) or a function (.func). The signature is known once the module is parsed, the body only after
// `parse_body` (parser.h; Program does it), as a module holds hundreds of kernels and a test launches a few.
struct Function {
  std::string_view name;
  bool is_kernel = false;
  bool is_declared_only = false;  // .extern .func vprintf, or a prototype whose definition never follows
  bool is_noreturn = false;
  LaunchBounds bounds;             // kernels
  std::vector<Parameter> returns;  // functions
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;  // size of the parameter area
  uint32_t return_bytes = 0;
  uint32_t body_begin = 0;  // where in Module::text the body's '{' is
  uint32_t line = 0;        // of the PTX text, 1-based

  // From here: after parse_body.
  bool body_parsed = false;
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .shared, .local, and .param inside the body
  std::vector<Prototype> prototypes;
  std::vector<Statement> body;
  uint32_t local_bytes = 0;  // per thread, .local variables laid out by Variable::offset
  uint32_t local_alignment = 1;
  uint32_t call_parameter_bytes = 0;  // per thread, .param variables of the body laid out by Variable::offset
};

struct Module {
  std::string name;  // for messages: the object it came from
  std::string text;
  std::string_view version;  // "9.0"
  std::string_view target;   // "sm_90a"
  std::vector<Variable> variables;
  // Each function once, definition or else declaration; addresses of elements are stable.
  std::vector<std::unique_ptr<Function>> functions;
  std::map<std::string_view, uint32_t> function_index;  // kernels, functions and .alias names
  std::map<std::string_view, uint32_t> variable_index;
  std::map<uint32_t, std::string> files;              // .file, also those after the bodies
  std::vector<SourceLocation> locations;              // filled by parse_body
  std::map<std::string_view, uint32_t> debug_labels;  // label in .section .debug_str -> position in text

  Module() = default;
  Module(const Module&) = delete;  // views point into text
  Module& operator=(const Module&) = delete;

  Function* find_function(std::string_view function_name) const;  // nullptr if there is none
  std::string debug_string(std::string_view label) const;         // the (mangled) function a .loc was inlined from
};

// "gemm.cu:40" or, inlined, "mma.h:12, inlined at gemm.cu:40"; "unknown line" without .loc.
std::string describe_location(const Module& module, int32_t location);
// The instruction as written, white space collapsed: "@%p1 bra $L__BB0_2".
std::string statement_text(const Module& module, const Statement& statement);
// "gemm:812: message; in kernel K, at gemm.cu:40: `text`".
ParseError statement_error(const Module& module, const Function& function, const Statement& statement,
                           const std::string& message);

}  // namespace foretoken::ptx
