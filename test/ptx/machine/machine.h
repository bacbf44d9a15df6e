// The state that instructions work on, and what a handler may do to it.
//
// Launch > Cluster > Block > Warp > Split. Single-threaded. A split is {pc, lanes}: lanes of a warp that stand at the
// same instruction. It is what the scheduler runs, a seeded slice of 1 … 64 instructions at a time.
//
// A handler is `Outcome handler(Context& c, const Instruction& i)`: it executes for the lanes of `c.lanes` (never
// empty, the guard is already applied) and must leave all other lanes of its results alone. It uses
//   c.source<T>(i[k])          T[32], one value per lane (uint32_t, float, uint64_t, double, … by Operand::bits)
//   c.write<T>(i[0], values)   stores the lanes that execute, marks them defined
//   c.undefined(i[k])          lanes whose value has any undefined bit: zero at the cost of one look at a flag
//   c.fault(kind, lane, …)     stops the launch with kernel, line, block and thread
// and, for memory, global() / shared_at() and the accessors in access.h.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "counters.h"
#include "fault.h"
#include "instruction.h"
#include "memory.h"
#include "observer.h"
#include "random.h"

namespace foretoken::machine {

struct Launch;
struct Cluster;
struct Block;
struct Warp;
struct Split;
struct Code;

// What a file of instructions keeps in a launch, cluster, block or warp: derive from it. Made on first use.
struct Extension {
  virtual ~Extension() = default;
  // Threads of the block have exited (blocks' and clusters' extensions are told): what waits for all may go on.
  virtual void threads_exited(Launch&, Block&) {}
};

// ---------------------------------------------------------------------------------------------------------------------
// Splits

// Where diverged lanes meet again: one entry per divergence that is still open.
struct Meeting {
  uint32_t pc = 0;
  uint64_t divergence = 0;  // its serial number; every split that came of it carries it until it passes pc
};

// What a sleeping split waits for. Any address or number that is unique for the thing will do.
struct WaitKey {
  const void* object = nullptr;
  uint64_t detail = 0;
  bool operator==(const WaitKey&) const = default;
};

enum class SplitState : uint8_t {
  ready,
  parked,  // at a meeting point, until the lanes it parted from come, sleep or exit
  asleep,  // until Launch::wake(wait)
};

struct Split {
  Warp* warp = nullptr;
  uint32_t pc = 0;
  Mask lanes = 0;
  SplitState state = SplitState::ready;
  WaitKey wait;
  const char* waits_for = "";  // in words, for the deadlock report: "bar.sync 1"
  bool arrived = false;        // the handlers' own: set before sleeping in an instruction that runs again
  uint64_t ticket = 0;         // the handlers' own, likewise
  uint32_t since_look = 0;     // instructions since its last slice that ended in a look at what others write
  int32_t run_queue_position = -1;
  std::vector<Meeting> meetings;     // innermost last
  std::vector<uint32_t> return_pcs;  // of .func calls, innermost last
};

// ---------------------------------------------------------------------------------------------------------------------
// Warps

enum class RowState : uint8_t {
  defined = 0,    // every lane, every bit: the shadow is not kept up
  mixed = 1,      // the shadow says: same layout as the row, bit set = undefined
  undefined = 2,  // never written: the shadow is not kept up
  lent = 3,       // an accumulator of a wgmma that was not waited for: reading it is a fault
};

struct Predicate {
  Mask value = 0;
  Mask undefined = 0;
};

struct Warp {
  Block* block = nullptr;
  uint32_t index = 0;  // in the block
  Mask live = 0;       // lanes that exist and have not exited
  Mask exists = 0;
  uint8_t* rows = nullptr;              // [code.rows][32] x 32 bit; 64-byte aligned
  uint8_t* shadow = nullptr;            // the same shape
  uint8_t* row_state = nullptr;         // [code.rows] RowState; of a wide register: at its first row
  Mask* row_undefined = nullptr;        // [code.rows] of mixed rows: lanes with any undefined bit
  Predicate* predicates = nullptr;      // [code.predicates + 1]; [0] is true
  Predicate carry{0, kAllLanes};        // CC.CF of add.cc and its like
  uint8_t* local = nullptr;             // [32][code.local_bytes] local memory, lane by lane
  uint8_t* local_shadow = nullptr;      // [32][code.local_bytes] 0 = defined, 0xff = undefined, by byte
  uint8_t* call_area = nullptr;         // [32][code.call_area_bytes] .param of .func calls
  uint8_t* call_area_shadow = nullptr;  // likewise
  std::vector<std::unique_ptr<Split>> splits;
  std::unique_ptr<Extension> rendezvous;    // warp-level syncs in progress (warp_sync.cpp)
  std::unique_ptr<Extension> asynchronous;  // cp.async and bulk groups, wgmma groups

  uint32_t thread(int lane) const { return index * kLanes + static_cast<uint32_t>(lane); }  // linear in the block
};

// ---------------------------------------------------------------------------------------------------------------------
// Blocks, clusters, launches

struct Dimensions {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

constexpr int kBarriers = 16;

// bar.sync and its like: counts threads, not warps.
struct NamedBarrier {
  uint32_t arrived = 0;        // threads of this phase
  uint32_t expected = 0;       // threads, fixed by the first to arrive; 0: nobody has
  bool whole_block = false;    // no count given: all threads of the block that have not exited
  uint64_t phase = 0;          // counts completions
  uint32_t red_count = 0;      // bar.red: threads whose predicate was true, this phase
  bool red_undefined = false;  // one of them was undefined
  uint32_t result = 0;         // of the last phase: red_count, the threads, red_undefined
  uint32_t result_threads = 0;
  bool result_undefined = false;
};

struct Block {
  Cluster* cluster = nullptr;
  uint32_t rank = 0;  // in the cluster
  Dimensions index;   // %ctaid
  uint32_t threads = 0;
  uint32_t live_threads = 0;
  uint32_t shared_bytes = 0;  // static and dynamic
  // Base rank << 24; accessible from kSharedBase to kSharedBase + shared_bytes.
  std::unique_ptr<Memory> shared;
  std::vector<std::unique_ptr<Warp>> warps;
  std::array<NamedBarrier, kBarriers> barriers;
  bool exited = false;                      // every thread has; its shared memory stays until the cluster ends
  uint32_t sm = 0;                          // %smid
  std::unique_ptr<Extension> asynchronous;  // mbarriers, pending bulk copies
};

struct Cluster {
  Launch* launch = nullptr;
  Dimensions index;                            // %clusterid
  std::vector<std::unique_ptr<Block>> blocks;  // by rank
  uint32_t live_blocks = 0;
  // barrier.cluster
  uint32_t barrier_arrived = 0;  // threads
  uint64_t barrier_phase = 0;
  std::unique_ptr<Extension> asynchronous;
};

// An operation that completes some time after its instruction: a copy, a tensor product, an arrival.
// It is queued with Launch::submit and completed by seed: at once, at random, or when nothing else can run or something
// forces it. Until then its destinations should be marked undefined and its sources must not change: that is up to
// whoever queues it. complete() does the effect and wakes whom it may concern.
class AsynchronousOperation {
 public:
  virtual ~AsynchronousOperation() = default;
  virtual void complete(Launch& launch) = 0;
  // "cp.async.bulk of gemm.cu:40", for the deadlock report.
  virtual std::string describe() const = 0;
  uint64_t number = 0;     // given by submit, from 1; the agent of its MemoryEvents
  uint64_t after = 0;      // if not zero: may complete only after that operation has
  Block* block = nullptr;  // whose block must not end before it: see Launch::submit
};

enum class Completion : uint8_t { at_once, random, last_moment };

struct LaunchShape {
  Dimensions grid, block, cluster;  // cluster (1,1,1): none
  bool explicit_cluster = false;
  uint32_t dynamic_shared_bytes = 0;
  bool cooperative = false;
  uint32_t sm_count = 4, blocks_per_sm = 1;
};

struct Options {
  uint64_t seed = 1;
  Completion completion = Completion::random;
  uint32_t longest_slice = 64;  // instructions
  bool fuse = false;            // single-use mul into add
  bool perturb_approximations = false;
  uint64_t numerics_seed = 1;         // of the perturbation
  bool truncate_tensor_sums = false;  // accumulate mma with aligned truncation
  uint64_t instruction_limit = 0;     // 0: none; warp instructions, a runaway kernel is a deadlock
};

// The constant rows of one rank, padded as the file of registers is; all defined.
struct ConstantRows {
  uint8_t* values = nullptr;
  uint8_t* shadow = nullptr;
  uint8_t* states = nullptr;
};

// A grid being executed.
struct Launch {
  const Code* code = nullptr;
  const Instruction* program = nullptr;  // the code's instructions, or a copy with fusions made
  LaunchShape shape;
  Options options;
  Memory* global = nullptr;
  Observer* observer = nullptr;
  std::vector<ConstantRows> constants;  // by rank in the cluster
  Memory* parameters = nullptr;         // of the kernel, at kParameterWindow
  Counters counters;
  Random random;              // schedule and completion; never values
  uint64_t instructions = 0;  // executed so far, per warp: also %clock
  uint64_t progress = 0;      // bump when anything changed that another split may wait for
  uint64_t divergences = 0;
  std::vector<std::unique_ptr<Cluster>> clusters;               // resident
  std::vector<uint64_t> executed, lanes_executed;               // [pc] how often
  std::vector<Split*> run_queue;                                // ready splits
  std::vector<std::unique_ptr<AsynchronousOperation>> pending;  // in order of submission
  uint64_t last_operation = 0;
  uint32_t parked_splits = 0;
  // Host side of printf and friends: texts in the order of execution.
  std::vector<std::string> printed;
  std::unique_ptr<Extension> storage;  // of ended warps and blocks, to be used again

  // Queues an operation (or, with Completion::at_once, completes it before returning). Returns its number.
  uint64_t submit(std::unique_ptr<AsynchronousOperation> operation);
  bool is_pending(uint64_t number) const;
  // Completes it now, after what it has to come after. Nothing if it is complete.
  void force(uint64_t number);
  // Makes every split that sleeps on the key ready: of the whole grid, or of one block.
  void wake(const WaitKey& key);
  void wake(const WaitKey& key, Block& block);
  // A sleeping or parked split becomes ready.
  void make_ready(Split& split);
};

// ---------------------------------------------------------------------------------------------------------------------
// What a handler sees

struct Context {
  Mask lanes = 0;  // that execute this instruction
  // By file (registers, constants).
  uint8_t* rows[2] = {nullptr, nullptr};
  uint8_t* shadows[2] = {nullptr, nullptr};
  uint8_t* states[2] = {nullptr, nullptr};
  Mask* undefined_lanes = nullptr;  // of registers that are mixed
  Predicate* predicates = nullptr;
  Launch* launch = nullptr;
  Cluster* cluster = nullptr;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Split* split = nullptr;
  uint32_t pc = 0;

  // All lanes that are alive execute: a row may be written as a whole.
  bool whole() const { return lanes == warp->live; }

  // --- rows: values
  template <class T>
  const T* source(const Operand& o) const {
    return reinterpret_cast<const T*>(rows[o.file] + o.index * kRowBytes);
  }
  template <class T>
  T* target(const Operand& o) const {
    return reinterpret_cast<T*>(rows[kRegisterFile] + o.index * kRowBytes);
  }
  // T as wide as the row's lanes. Lanes that do not execute keep their value. Marks the result defined.
  template <class T>
  void write(const Operand& o, const T* values) {
    if (o.kind == OperandKind::sink) return;
    blend(target<T>(o), values);
    set_defined(o);
  }
  // The store alone: what is undefined in it must be said by set_defined, set_undefined or propagate.
  template <class T>
  void blend(T* row, const T* values) const {
    if (whole()) {
      for (int lane = 0; lane < kLanes; ++lane) row[lane] = values[lane];
    } else {
      for (int lane = 0; lane < kLanes; ++lane) row[lane] = lanes >> lane & 1 ? values[lane] : row[lane];
    }
  }

  // --- rows: definedness
  RowState state(const Operand& o) const { return static_cast<RowState>(states[o.file][o.index]); }
  // Lanes (all 32, whether they execute or not) with any undefined bit.
  Mask undefined(const Operand& o) const { return states[o.file][o.index] == 0 ? 0 : undefined_exact(o); }
  // The shadow of a row, spelled out: same layout as the values, bit set = undefined.
  template <class T>
  const T* shadow(const Operand& o) const {
    if (state(o) != RowState::mixed) spell_out(o);
    return reinterpret_cast<const T*>(shadows[o.file] + o.index * kRowBytes);
  }
  // For the lanes that execute.
  void set_defined(const Operand& o) {
    if (states[kRegisterFile][o.index] != 0) set_undefined(o, 0);
  }
  void set_undefined(const Operand& o, Mask which);  // whole lanes; the other executing lanes become defined
  // Whether nothing that these operands' executing lanes hold is undefined.
  template <class... O>
  bool defined(const O&... operands) const {
    return ((undefined(operands) | ...) & lanes) == 0;
  }
  template <class T>
  void set_shadow(const Operand& o, const T* undefined_bits) {  // bit by bit
    if (o.kind == OperandKind::sink) return;
    if (state(o) != RowState::mixed) spell_out(o);
    blend(reinterpret_cast<T*>(shadows[kRegisterFile] + o.index * kRowBytes), undefined_bits);
    settle(o);
  }

  // --- predicates
  Mask predicate(const Operand& o) const { return predicates[o.index].value ^ (o.negated ? kAllLanes : 0); }
  Mask predicate_undefined(const Operand& o) const { return predicates[o.index].undefined; }
  void write_predicate(const Operand& o, Mask value, Mask undefined_lanes = 0) {
    if (o.kind == OperandKind::sink) return;
    Predicate& p = predicates[o.index];
    p.value = (p.value & ~lanes) | (value & lanes);
    p.undefined = (p.undefined & ~lanes) | (undefined_lanes & lanes);
  }

  // Stops the launch if a lane that executes has an undefined value there: it decides `what`.
  void require_defined(const Operand& o, const char* what) {
    if (const Mask bad = undefined_any(o) & lanes) fault_undefined(bad, what);
  }
  Mask undefined_any(const Operand& o) const {
    return o.kind == OperandKind::predicate ? predicate_undefined(o) : undefined(o);
  }

  // --- addresses: base + offset of the lanes that execute (others: anything). Faults where the base is undefined.
  void addresses(const Operand& o, uint64_t* result);

  // --- memory
  Memory& global() const { return *launch->global; }
  // The block of the cluster that a shared address (rank << 24 | offset) belongs to; faults if there is none.
  Block& shared_at(int lane, uint64_t shared_address);

  // --- sleeping and waking
  // The split sleeps until launch->wake(key); the handler returns `yield` (goes on behind) or `repeat` (runs it again).
  void sleep(const WaitKey& key, const char* waits_for);
  // For .aligned instructions, which all live lanes of a warp execute together. True: they do; lanes that had parted
  // are joined to this split and `lanes` is the whole warp. False: it sleeps until they come; return Outcome::repeat.
  bool assemble(const char* waits_for);
  // Parts `away` (some of the split's lanes) from the split that executes; the new split is ready at the same pc.
  Split& divide(Mask away);

  // --- errors
  [[noreturn]] void fault(FaultKind kind, int lane, const std::string& message) const;
  [[noreturn]] void fault_undefined(Mask bad, const char* what) const;

  // --- the observer, when there is one
  void observe(const MemoryEvent& event) {
    if (launch->observer) [[unlikely]]
      launch->observer->on_access(*this, event);
  }
  void observe(const SyncEvent& event) {
    if (launch->observer) [[unlikely]]
      launch->observer->on_sync(*this, event);
  }

 private:
  Mask undefined_exact(const Operand& o) const;
  void spell_out(const Operand& o) const;
  [[noreturn]] void fault_lent() const;
  void settle(const Operand& o);  // the row's state from its shadow
};

inline int first_lane(Mask lanes) { return __builtin_ctz(lanes); }

// for (int lane : each(mask))
struct LaneIterator {
  Mask rest;
  int operator*() const { return __builtin_ctz(rest); }
  LaneIterator& operator++() {
    rest &= rest - 1;
    return *this;
  }
  bool operator!=(const LaneIterator& other) const { return rest != other.rest; }
};
struct LaneRange {
  Mask lanes;
  LaneIterator begin() const { return {lanes}; }
  LaneIterator end() const { return {0}; }
};
inline LaneRange each(Mask lanes) { return {lanes}; }

}  // namespace foretoken::machine
