#include "accesses.h"

#include <string_view>
#include <unordered_map>

namespace foretoken::ptx {
namespace {

enum class Results : uint8_t {
  none,      // all operands are read
  first,     // the first operand is written, unless it is an address
  in_place,  // the first operand is read and written
  reduced,   // bar, barrier: the first operand is written if they reduce, else it is the barrier's number
  returned,  // call
};

using Table = std::unordered_map<std::string_view, Results>;

Table make_table() {
  Table table;
  const auto add = [&](Results results, std::initializer_list<std::string_view> mnemonics) {
    for (const std::string_view mnemonic : mnemonics) table.emplace(mnemonic, results);
  };
  add(Results::first,
      {"abs",      "add",  "addc",  "and",  "bfe",  "bfi",   "bfind", "bmsk",  "brev",  "clz",   "cnot",
       "copysign", "cos",  "cvt",   "cvta", "div",  "dp2a",  "dp4a",  "ex2",   "fma",   "fns",   "lg2",
       "lop3",     "mad",  "mad24", "madc", "max",  "min",   "mov",   "mul",   "mul24", "neg",   "not",
       "or",       "popc", "prmt",  "rcp",  "rem",  "rsqrt", "sad",   "selp",  "set",   "setp",  "shf",
       "shl",      "shr",  "sin",   "slct", "sqrt", "sub",   "subc",  "szext", "tanh",  "testp", "xor"});
  add(Results::first, {"activemask", "atom",     "createpolicy", "elect", "getctarank", "isspacep", "istypep",
                       "ld",         "ldmatrix", "ldu",          "mapa",  "match",      "mbarrier", "mma",
                       "movmatrix",  "multimem", "redux",        "shfl",  "vote",       "wmma"});
  add(Results::in_place, {"wgmma"});
  add(Results::reduced, {"bar", "barrier"});
  add(Results::returned, {"call"});
  add(Results::none, {"applypriority",  "bra",    "brkpt",     "brx",       "cp",       "discard",   "exit", "fence",
                      "griddepcontrol", "membar", "nanosleep", "pmevent",   "prefetch", "prefetchu", "red",  "ret",
                      "setmaxnreg",     "st",     "stmatrix",  "tensormap", "trap"});
  return table;
}

Results results_of(const Module& module, const Function& function, const Statement& statement) {
  static const Table table = make_table();
  const auto found = table.find(statement.mnemonic);
  if (found == table.end()) throw statement_error(module, function, statement, "unknown instruction");
  if (found->second == Results::returned || statement.operands.empty()) return found->second;
  if (found->second == Results::reduced) return statement.has("red") ? Results::first : Results::none;
  const bool is_address = statement.operands[0].kind == OperandKind::address;
  return is_address ? Results::none : found->second;
}

class Collector {
 public:
  void add(const Operand& operand, bool read, bool written) {
    if (operand.kind == OperandKind::reg) return add(operand.reg, read, written);
    const bool is_address = operand.kind == OperandKind::address;
    for (const Operand& element : operand.elements) add(element, read || is_address, written && !is_address);
  }
  void add(uint32_t reg, bool read, bool written) {
    for (Access& known : accesses)
      if (known.reg == reg) {
        known.read |= read;
        known.written |= written;
        return;
      }
    accesses.push_back({reg, read, written});
  }
  std::vector<Access> accesses;
};

}  // namespace

std::vector<Access> register_accesses(const Module& module, const Function& function, const Statement& statement) {
  const Results results = results_of(module, function, statement);
  Collector collector;
  if (statement.guard) collector.add(*statement.guard, true, false);
  for (size_t i = 0; i < statement.operands.size(); ++i) {
    const bool written = i == 0 && results != Results::none;
    collector.add(statement.operands[i], !written || results == Results::in_place, written);
  }
  return collector.accesses;
}

}  // namespace foretoken::ptx
