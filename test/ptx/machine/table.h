// From an instruction as written to its handler. One selector per mnemonic; it takes the modifiers it knows, and what
// is left over is an instruction that we do not know: it stops with its text, never a guess.
//
//   void select_vote(Form& form) {
//     form.need("sync");
//     form.instruction.category = Class::shuffle;
//     if (form.take("ballot")) { form.expect_type(Type::b32); form.use(vote_ballot); return; }
//     …
//   }
#pragma once
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "instruction.h"
#include "ptx/module.h"
#include "ptx/program.h"

namespace foretoken::machine {

struct Code;

class Form {
 public:
  Form(Code& code, const ptx::FunctionPlan& plan, const ptx::Statement& statement, Instruction& out);

  Instruction& instruction;         // what is being made: category, propagate, parameter, results
  const ptx::Statement& statement;  // as written: statement.operands[k].elements.size() is a vector's length
  const ptx::FunctionPlan& plan;
  Code& code;

  // --- modifiers
  bool take(std::string_view modifier);                                // true if it stands there; it is used up
  int take_one(std::initializer_list<std::string_view> alternatives);  // index of the one there is, or -1
  void need(std::string_view modifier);                                // must stand there
  bool take_prefix(std::string_view prefix, std::string_view& rest);   // "L2::128B": prefix "L2::"
  void ignore(std::initializer_list<std::string_view> modifiers);      // without meaning for us: cache hints
  bool has_type() const;
  ptx::Type take_type();              // the next modifier that is a type, in the order written
  [[noreturn]] void unknown() const;  // stops: not in the table
  [[noreturn]] void refuse(const std::string& why) const;

  // --- operands. Flat operand numbers count the elements of vectors, pairs and addresses in place. Registers and
  // addresses are made before the selector runs; constants (immediates, addresses of symbols) as the selector says
  // their type, by one of:
  void constants(ptx::Type type);                            // all of them
  void constant(int statement_operand, ptx::Type type);      // those of one statement operand
  int flat(int statement_operand) const;                     // flat number of its first element
  int operand_count() const;                                 // as written
  const ptx::Operand& operand(int statement_operand) const;  // refuses where there are fewer
  void expect_operands(int least, int most);

  // --- the end
  void use(Handler handler) { instruction.handler = handler; }

  // Keeps something as long as the code lives, for Instruction::plan.
  template <class T>
  const T* keep(T value) {
    auto owner = std::make_shared<T>(std::move(value));
    const T* kept = owner.get();
    keep_owner(std::move(owner));
    return kept;
  }

  void finish();  // unknown() if a modifier is left, or no handler was chosen

 private:
  void keep_owner(std::shared_ptr<void> owner);
  void add(const ptx::Operand& operand);
  void set_constant(size_t flat_number, const ptx::Operand& operand, ptx::Type type);
  std::vector<bool> taken_;                         // [statement.modifiers]
  std::vector<Operand>& operands_;                  // flat
  std::vector<const ptx::Operand*> flat_operands_;  // [operands_] where it comes from
  std::vector<int> flat_of_;                        // [statement.operands]
};

struct Entry {
  std::string_view mnemonic;
  void (*select)(Form&);
};

// The table: the entries of these files together.
std::span<const Entry> arithmetic_table();    // integers, floats, halves
std::span<const Entry> bit_table();           // logic, shifts, fields, prmt
std::span<const Entry> convert_table();       // cvt, cvta
std::span<const Entry> compare_table();       // setp, set, selp, slct, mov
std::span<const Entry> memory_table();        // ld, st, atom, red, prefetch
std::span<const Entry> warp_table();          // shfl, vote, match, redux, elect, bar.warp.sync
std::span<const Entry> control_table();       // bra, brx, call, ret, exit, trap, bar, barrier, membar, nanosleep
std::span<const Entry> tensor_table();        // mma, ldmatrix, stmatrix, movmatrix, wgmma
std::span<const Entry> asynchronous_table();  // cp, mbarrier, mapa, getctarank, fence, griddepcontrol, setmaxnreg, …
// `barrier` is in the control table and comes here when it is barrier.cluster ("cluster" is taken already).
void select_barrier_cluster(Form& form);

// nullptr: unknown.
const Entry* find_entry(std::string_view mnemonic);

}  // namespace foretoken::machine
