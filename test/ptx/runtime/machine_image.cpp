#include "machine_image.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "ptx/parser.h"

namespace foretoken::ptx::runtime {
namespace {

constexpr uint32_t kMaxRegisters = 255, kRegisterStep = 8;

uint32_t product(const uint32_t (&d)[3]) { return d[0] * d[1] * d[2]; }

// Without machine code: what the parser's own allocation needs, or the launch bounds leave, whichever is less.
uint32_t estimate_registers(const machine::Code& code, uint32_t max_threads) {
  uint32_t registers = std::min(kMaxRegisters, code.program.rows);
  if (max_threads) registers = std::min(registers, kRegistersPerSm / max_threads / kRegisterStep * kRegisterStep);
  return registers;
}

KernelInfo describe(const Function& function, const machine::Code& code) {
  KernelInfo info;
  for (const Parameter& parameter : function.parameters) info.parameters.push_back({parameter.offset, parameter.size});
  info.parameter_bytes = function.parameter_bytes;
  info.static_shared_bytes = code.program.static_shared_bytes;
  info.local_bytes = code.program.local_bytes;
  const LaunchBounds& bounds = function.bounds;
  info.max_threads = product(bounds.max_threads);
  info.required_threads = {bounds.required_threads[0], bounds.required_threads[1], bounds.required_threads[2]};
  info.required_cluster = {bounds.cluster[0], bounds.cluster[1], bounds.cluster[2]};
  const uint32_t most = info.max_threads ? info.max_threads : product(bounds.required_threads);
  info.registers = estimate_registers(code, most);
  return info;
}

bool lives_in_global_memory(const Variable& variable) {
  return variable.space == StateSpace::global || variable.space == StateSpace::constant;
}

}  // namespace

MachineImage::MachineImage(std::string text, const std::string& name, machine::Memory& memory,
                           const Executor::Place& place)
    : memory_(memory), module_(parse_module(std::move(text), name)) {
  place_variables(place);
}

// All have an address before the first initialiser that may mention it is written.
void MachineImage::place_variables(const Executor::Place& place) {
  for (const Variable& variable : module_->variables) {
    if (!lives_in_global_memory(variable) || variable.is_extern || variable.size == 0) continue;
    const uint64_t address = place(variable.size, std::max(variable.alignment, uint32_t{machine::Memory::kPageBytes}));
    if (!address) throw std::runtime_error("no addresses are left for " + std::string(variable.name));
    memory_.allocate(address, variable.size, std::string(variable.name));
    addresses_[&variable] = address;
  }
  for (const auto& [variable, address] : addresses_) {
    uint8_t* cells = memory_.cell(address);
    if (variable->initializer.empty()) {
      std::memset(cells, 0, variable->size);
    } else {
      std::memcpy(cells, variable->initializer.data(), variable->size);
    }
    for (const Variable::Relocation& relocation : variable->relocations) {
      const uint64_t value = (address_of(relocation) + static_cast<uint64_t>(relocation.addend)) >> relocation.shift;
      std::memcpy(cells + relocation.offset, &value, relocation.width);
    }
    memory_.mark_defined(address, variable->size);
  }
}

uint64_t MachineImage::address_of(const Variable::Relocation& relocation) const {
  if (const auto function = module_->function_index.find(relocation.symbol); function != module_->function_index.end())
    return machine::kFunctionWindow + 16 * uint64_t{function->second};
  const auto variable = module_->variable_index.find(relocation.symbol);
  const auto place = variable == module_->variable_index.end() ? addresses_.end()
                                                               : addresses_.find(&module_->variables[variable->second]);
  if (place == addresses_.end())
    throw std::runtime_error("an initialiser names " + std::string(relocation.symbol) + ", which has no address");
  return place->second;
}

const KernelInfo* MachineImage::kernel(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return &known->second.info;
  const Function* function = module_->find_function(name);
  if (!function || !function->is_kernel) return nullptr;
  const auto resolve = [this](const Variable& variable) {
    const auto place = addresses_.find(&variable);
    if (place == addresses_.end())
      throw std::runtime_error(std::string(variable.name) + " is used but not defined in " + module_->name);
    return place->second;
  };
  Decoded decoded;
  decoded.code = machine::decode(*module_, *function, resolve);
  decoded.info = describe(*function, *decoded.code);
  return &kernels_.emplace(name, std::move(decoded)).first->second.info;
}

std::optional<Region> MachineImage::variable(const std::string& name) const {
  const auto index = module_->variable_index.find(name);
  if (index == module_->variable_index.end()) return std::nullopt;
  const Variable& variable = module_->variables[index->second];
  const auto place = addresses_.find(&variable);
  if (place == addresses_.end()) return std::nullopt;
  return Region{place->second, variable.size};
}

}  // namespace foretoken::ptx::runtime
