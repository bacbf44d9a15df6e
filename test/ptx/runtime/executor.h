// What the stand-in runtime needs of the machine: cells behind device addresses, and kernels that run to completion.
// Everything that is policy (streams, errors, pools, limits, addresses) stays on the runtime's side.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "card.h"
#include "machine/counters.h"
#include "machine/fault.h"
#include "settings.h"

namespace foretoken::ptx::runtime {

struct Dimensions {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

// What a kernel's own code says of it.
struct KernelInfo {
  struct Parameter {
    uint32_t offset = 0, bytes = 0;
  };
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  uint32_t static_shared_bytes = 0;
  uint32_t local_bytes = 0;              // per thread
  uint32_t registers = 0;                // per thread, an estimate: the compiler's own count wins where there is one
  uint32_t max_threads = 0;              // .maxntid multiplied out; 0: not given
  Dimensions required_threads{0, 0, 0};  // .reqntid
  Dimensions required_cluster{0, 0, 0};  // .reqnctapercluster
};

struct Region {
  uint64_t address = 0, bytes = 0;
};

// A loaded module. Its functions throw std::exception where the PTX is not understood.
class Image {
 public:
  virtual ~Image() = default;
  virtual const KernelInfo* kernel(const std::string& name) = 0;  // nullptr: no such kernel
  virtual std::optional<Region> variable(const std::string& name) const = 0;
};

struct KernelCall {
  Image* image = nullptr;
  std::string kernel;
  Dimensions grid, block, cluster;
  uint32_t dynamic_shared_bytes = 0;
  std::span<const std::byte> parameters;  // KernelInfo::parameter_bytes
  bool cooperative = false;
  uint32_t blocks_per_sm = 1;  // as many as fit by registers, shared memory and threads
};

// One device. Whatever goes wrong in a copy or a kernel is thrown as machine::Fault.
class Executor {
 public:
  // Takes addresses for so many bytes; the executor then maps them.
  using Place = std::function<uint64_t(uint64_t bytes, uint64_t alignment)>;

  virtual ~Executor() = default;

  // `text` is PTX, `name` goes into messages. Throws std::exception where it is not understood.
  virtual std::unique_ptr<Image> load(std::string text, const std::string& name, const Place& place) = 0;

  // Cells for [address, address + bytes), contents undefined.
  virtual void map(uint64_t address, uint64_t bytes, const std::string& name) = 0;
  // Ends the mapping that starts at `address`: from here on any access to it is a fault.
  virtual void unmap(uint64_t address) = 0;
  // Any access to these bytes, inside one mapping, is a fault until that ends.
  virtual void forbid(uint64_t address, uint64_t bytes) = 0;

  virtual void read(void* to, uint64_t from, uint64_t bytes) = 0;
  virtual void write(uint64_t to, const void* from, uint64_t bytes) = 0;
  virtual void copy(uint64_t to, uint64_t from, uint64_t bytes) = 0;
  virtual void fill(uint64_t to, uint8_t value, uint64_t bytes) = 0;

  // To its end.
  virtual machine::Counters run(const KernelCall& call) = 0;
};

// Where a device's addresses lie. Nothing is ever mapped there, so host code that touches one crashes.
struct AddressRange {
  uint64_t base = 0, bytes = 0;
};

// How an executor is made: make_machine_executor, unless a test puts a fake in its place and resets the runtime.
using MakeExecutor = std::function<std::unique_ptr<Executor>(const Card&, AddressRange, const Settings&)>;
MakeExecutor& executor_maker();
std::unique_ptr<Executor> make_machine_executor(const Card& card, AddressRange range, const Settings& settings);

}  // namespace foretoken::ptx::runtime
