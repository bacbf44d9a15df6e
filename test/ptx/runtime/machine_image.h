// A PTX module in the machine: its variables in global memory, its kernels decoded when first asked for.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "executor.h"
#include "machine/code.h"
#include "machine/memory.h"
#include "ptx/module.h"

namespace foretoken::ptx::runtime {

class MachineImage : public Image {
 public:
  MachineImage(std::string text, const std::string& name, machine::Memory& memory, const Executor::Place& place);

  const KernelInfo* kernel(const std::string& name) override;
  std::optional<Region> variable(const std::string& name) const override;
  // Of a kernel that `kernel` has found.
  const machine::Code& code(const std::string& name) const { return *kernels_.at(name).code; }

 private:
  struct Decoded {
    KernelInfo info;
    std::unique_ptr<machine::Code> code;
  };
  void place_variables(const Executor::Place& place);
  uint64_t address_of(const Variable::Relocation& relocation) const;

  machine::Memory& memory_;
  std::unique_ptr<Module> module_;
  std::map<const Variable*, uint64_t> addresses_;
  std::map<std::string, Decoded> kernels_;
};

}  // namespace foretoken::ptx::runtime
