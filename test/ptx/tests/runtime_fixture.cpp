#include "runtime_fixture.h"

#include <cstdlib>
#include <cstring>

#include "ptx/parser.h"

namespace runtime_tests {
namespace {

using foretoken::machine::Fault;
using foretoken::machine::FaultKind;

// Signatures come from the PTX, everything else from the tests.
class FakeImage : public rt::Image {
 public:
  FakeImage(std::string text, const std::string& name, FakeExecutor& executor, const rt::Executor::Place& place)
      : module_(foretoken::ptx::parse_module(std::move(text), name)) {
    for (const auto& variable : module_->variables) {
      if (variable.size == 0) continue;
      const uint64_t address = place(variable.size, 256);
      executor.map(address, variable.size, "");
      if (!variable.initializer.empty()) executor.write(address, variable.initializer.data(), variable.size);
      variables_[std::string(variable.name)] = {address, variable.size};
    }
  }

  const rt::KernelInfo* kernel(const std::string& name) override {
    const auto* function = module_->find_function(name);
    if (!function) return nullptr;
    rt::KernelInfo& info = kernels_[name];
    info = {};
    for (const auto& parameter : function->parameters) info.parameters.push_back({parameter.offset, parameter.size});
    info.parameter_bytes = function->parameter_bytes;
    info.max_threads = function->bounds.max_threads[0];
    if (name == "runtime_static_shared") info.static_shared_bytes = 40000;
    return &info;
  }

  std::optional<rt::Region> variable(const std::string& name) const override {
    const auto found = variables_.find(name);
    if (found == variables_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::unique_ptr<foretoken::ptx::Module> module_;
  std::map<std::string, rt::KernelInfo> kernels_;
  std::map<std::string, rt::Region> variables_;
};

void add_kernel(FakeExecutor& executor, const rt::KernelCall& call) {
  struct {
    uint64_t data;
    int value, n;
  } arguments;
  REQUIRE(call.parameters.size() == sizeof(arguments));
  std::memcpy(&arguments, call.parameters.data(), sizeof(arguments));
  for (int i = 0; i < arguments.n; i++) {
    int value;
    executor.read(&value, arguments.data + 4 * static_cast<uint64_t>(i), 4);
    value += arguments.value;
    executor.write(arguments.data + 4 * static_cast<uint64_t>(i), &value, 4);
  }
}

}  // namespace

std::map<std::string, FakeExecutor::Kernel>& FakeExecutor::kernels() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

std::unique_ptr<rt::Image> FakeExecutor::load(std::string text, const std::string& name, const Place& place) {
  return std::make_unique<FakeImage>(std::move(text), name, *this, place);
}

void FakeExecutor::map(uint64_t address, uint64_t bytes, const std::string&) { mappings_[address].resize(bytes); }
void FakeExecutor::unmap(uint64_t address) { REQUIRE(mappings_.erase(address) == 1); }

char* FakeExecutor::cells(uint64_t address, uint64_t bytes) {
  auto next = mappings_.upper_bound(address);
  if (next == mappings_.begin()) throw Fault(FaultKind::address, "nothing is mapped there");
  --next;
  if (address + bytes > next->first + next->second.size()) throw Fault(FaultKind::address, "beyond a mapping's end");
  return next->second.data() + (address - next->first);
}

void FakeExecutor::read(void* to, uint64_t from, uint64_t bytes) { std::memcpy(to, cells(from, bytes), bytes); }
void FakeExecutor::write(uint64_t to, const void* from, uint64_t bytes) { std::memcpy(cells(to, bytes), from, bytes); }
void FakeExecutor::copy(uint64_t to, uint64_t from, uint64_t bytes) {
  std::memcpy(cells(to, bytes), cells(from, bytes), bytes);
}
void FakeExecutor::fill(uint64_t to, uint8_t value, uint64_t bytes) { std::memset(cells(to, bytes), value, bytes); }

foretoken::machine::Counters FakeExecutor::run(const rt::KernelCall& call) {
  const auto kernel = kernels().find(call.kernel);
  if (kernel != kernels().end()) kernel->second(*this, call);
  return {};
}

// A test says what it needs; whatever the suite runs under does not matter to it.
Fixture::Fixture(std::initializer_list<std::pair<const char*, std::string>> environment) {
  for (const char* name : {"PTX_DEVICE", "PTX_SMS", "PTX_MEMORY", "PTX_DEVICES", "PTX_DRIVER", "PTX_SEED", "PTX_EAGER",
                           "PTX_DRY", "PTX_REPORT", "PTX_STRICT", "CUDA_VISIBLE_DEVICES"}) {
    const char* value = std::getenv(name);
    before_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
    unsetenv(name);
  }
  for (const auto& [name, value] : environment) setenv(name, value.c_str(), 1);
  FakeExecutor::kernels() = {{"runtime_add", add_kernel}};
  rt::executor_maker() = [](const rt::Card&, rt::AddressRange, const rt::Settings&) {
    return std::make_unique<FakeExecutor>();
  };
  ptx_reset();
}

Fixture::~Fixture() {
  for (const auto& [name, value] : before_) {
    if (value) {
      setenv(name, value->c_str(), 1);
    } else {
      unsetenv(name);
    }
  }
  rt::executor_maker() = rt::make_machine_executor;
  ptx_reset();
}

int* device_array(const std::vector<int>& values) {
  int* data = nullptr;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data), 4 * values.size()) == cudaSuccess);
  REQUIRE(cudaMemcpy(data, values.data(), 4 * values.size(), cudaMemcpyHostToDevice) == cudaSuccess);
  return data;
}

std::vector<int> to_host(const int* data, size_t count) {
  std::vector<int> values(count);
  REQUIRE(cudaMemcpy(values.data(), data, 4 * count, cudaMemcpyDeviceToHost) == cudaSuccess);
  return values;
}

}  // namespace runtime_tests
