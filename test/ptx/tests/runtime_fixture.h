// A runtime with settings of its own and an executor in which kernels are C++ functions: what is tested is the runtime.
#pragma once
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "doctest.h"
#include "runtime/executor.h"
#include "runtime/hooks.h"
#include "runtime_kernels.h"

namespace runtime_tests {

namespace rt = foretoken::ptx::runtime;

// Device memory as one vector per mapping; kernels are looked up by name and get their packed arguments.
class FakeExecutor : public rt::Executor {
 public:
  using Kernel = std::function<void(FakeExecutor&, const rt::KernelCall&)>;

  std::unique_ptr<rt::Image> load(std::string text, const std::string& name, const Place& place) override;
  void map(uint64_t address, uint64_t bytes, const std::string& name) override;
  void unmap(uint64_t address) override;
  void forbid(uint64_t, uint64_t) override {}
  void read(void* to, uint64_t from, uint64_t bytes) override;
  void write(uint64_t to, const void* from, uint64_t bytes) override;
  void copy(uint64_t to, uint64_t from, uint64_t bytes) override;
  void fill(uint64_t to, uint8_t value, uint64_t bytes) override;
  foretoken::machine::Counters run(const rt::KernelCall& call) override;

  // Throws a Fault like the machine's where the range is not mapped.
  char* cells(uint64_t address, uint64_t bytes);

  static std::map<std::string, Kernel>& kernels();

 private:
  std::map<uint64_t, std::vector<char>> mappings_;
};

// Environment of the runtime for one test; afterwards everything is as before.
class Fixture {
 public:
  Fixture(std::initializer_list<std::pair<const char*, std::string>> environment = {});
  ~Fixture();
  Fixture(const Fixture&) = delete;

 private:
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

// The same with the machine behind it, which executes the PTX.
class MachineFixture : public Fixture {
 public:
  MachineFixture(std::initializer_list<std::pair<const char*, std::string>> environment = {}) : Fixture(environment) {
    rt::executor_maker() = rt::make_machine_executor;
    ptx_reset();
  }
};

inline PtxCounters counters() {
  PtxCounters now;
  ptx_counters(&now);
  return now;
}

inline PtxMemory memory() {
  PtxMemory now;
  ptx_memory(0, &now);
  return now;
}

// A device array with these values.
int* device_array(const std::vector<int>& values);
std::vector<int> to_host(const int* data, size_t count);

}  // namespace runtime_tests
