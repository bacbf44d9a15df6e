// Asynchronous operations: what each knows, and how others come to know of it.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "machine/code.h"
#include "machine/machine.h"
#include "warp_clock.h"

namespace foretoken::sanitizer {

// What kind of operation an instruction starts.
enum class OperationKind : uint8_t {
  unknown,
  copy,     // cp.async: waited for by its threads
  arrival,  // cp.async.mbarrier.arrive
  load,     // bulk copy that counts its bytes on an mbarrier
  store,    // bulk copy in a bulk group
  product   // wgmma
};

struct Operation {
  OperationKind kind = OperationKind::unknown;
  uint32_t time = 0;  // its number in the cluster: the time of its channels
  uint32_t warp = 0;  // agent of the (first) warp that started it
  uint32_t pc = 0;
  Mask lanes = 0;
  uint32_t until = 0;                  // program order of that warp: its accesses
  uint32_t copied = 0;                 // and its copies
  uint64_t mbarrier = 0;               // of loads
  std::shared_ptr<const Clock> clock;  // what came before; none once it is over
};

// By number, as the machine counts them: ascending from 1 in a launch.
class Operations {
 public:
  void clear() {
    operations_.clear();
    first_ = 1;
  }
  Operation& add(uint64_t number);
  Operation* find(uint64_t number) {
    return number < first_ || number - first_ >= operations_.size() ? nullptr : &operations_[number - first_];
  }
  void forget_before(uint64_t number);

 private:
  std::deque<Operation> operations_;
  uint64_t first_ = 1;
};

OperationKind operation_kind(const machine::Code& code, uint32_t pc);

}  // namespace foretoken::sanitizer
