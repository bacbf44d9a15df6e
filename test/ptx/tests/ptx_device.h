// A device for tests of instructions: memory, and kernels given as PTX text.
#pragma once
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "machine/grid.h"
#include "machine/tensor_map.h"
#include "ptx/parser.h"

namespace ptx_test {

using namespace foretoken::machine;

// A kernel `k` with a prologue that every test here wants: parameters of 64 bits as %p0, %p1, …; the thread's number in
// its block as %t; 1024-aligned shared memory of 64 KiB from %smem on, which is address 0x400.
inline std::string kernel(const std::string& body, int parameters, const std::string& directives = "") {
  std::string text =
      ".version 8.7\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 smem[];\n.visible .entry k(";
  for (int i = 0; i < parameters; ++i) text += (i ? ", " : "") + (".param .u64 q" + std::to_string(i));
  text += ") " + directives + "\n{\n.reg .u64 %p<" + std::to_string(parameters + 1) + ">;\n.reg .u32 %t, %smem;\n";
  for (int i = 0; i < parameters; ++i)
    text += "ld.param.u64 %p" + std::to_string(i) + ", [q" + std::to_string(i) + "];\n";
  return text + "mov.u32 %t, %tid.x;\nmov.u32 %smem, smem;\n" + body + "\nret;\n}\n";
}

// Handlers of all instructions that any test has executed so far.
inline std::set<Handler>& executed_handlers() {
  static std::set<Handler> all;
  return all;
}

class Device {
 public:
  explicit Device(const Options& with = {}) : options(with) {}

  // A block of memory with these contents; far from the next.
  template <class T>
  uint64_t put(const std::vector<T>& values) {
    const uint64_t address = take(values.size() * sizeof(T));
    std::memcpy(memory.cell(address), values.data(), values.size() * sizeof(T));
    memory.mark_defined(address, values.size() * sizeof(T));
    return address;
  }
  // … and with undefined contents.
  template <class T>
  uint64_t take_array(size_t count) {
    return take(count * sizeof(T));
  }
  template <class T>
  std::vector<T> get(uint64_t address, size_t count) const {
    std::vector<T> values(count);
    std::memcpy(values.data(), memory.cell(address), count * sizeof(T));
    return values;
  }
  bool is_defined(uint64_t address, uint64_t bytes) const {
    return memory.first_undefined(address, bytes) == address + bytes;
  }

  // `parameters`: the kernel's parameter area, byte for byte. Throws Fault.
  Result run(const std::string& text, const std::vector<uint8_t>& parameters) {
    auto module = foretoken::ptx::parse_module(text, "test.ptx");
    const auto& function = *module->find_function("k");
    const auto code = decode(*module, function, [](const foretoken::ptx::Variable&) { return uint64_t{0}; });
    Call call;
    call.code = code.get();
    call.shape = shape;
    call.options = options;
    call.global = &memory;
    call.parameters = {reinterpret_cast<const std::byte*>(parameters.data()), parameters.size()};
    const Result result = execute(call);
    for (size_t pc = 0; pc < result.executed.size(); ++pc)
      if (result.executed[pc]) executed_handlers().insert(code->instructions[pc].handler);
    for (const Code::Fusion& fusion : code->fusions)
      if (options.fuse && result.executed[fusion.pc]) executed_handlers().insert(fusion.instruction.handler);
    return result;
  }
  Result run(const std::string& text, const std::vector<uint64_t>& parameters) {
    std::vector<uint8_t> bytes(parameters.size() * 8);
    std::memcpy(bytes.data(), parameters.data(), bytes.size());
    return run(text, bytes);
  }
  // What the launch faults with; "" if it does not.
  template <class Parameters>
  std::string fault(const std::string& text, const Parameters& parameters) {
    try {
      run(text, parameters);
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "";
  }

  static constexpr uint64_t kBase = 0x10'0000'0000;
  Memory memory{kBase, 1 << 24};
  LaunchShape shape{.grid = {1}, .block = {32}, .cluster = {1}, .dynamic_shared_bytes = 65536};
  Options options;

 private:
  uint64_t take(uint64_t bytes) {
    const uint64_t address = next_;
    next_ = (address + bytes + 1023) / 512 * 512;
    memory.allocate(address, bytes, "array at " + std::to_string(address - kBase));
    return address;
  }
  uint64_t next_ = kBase + 4096;
};

// Every way in which asynchronous operations may complete.
inline std::vector<Options> schedules() {
  std::vector<Options> all;
  for (Completion completion : {Completion::at_once, Completion::random, Completion::last_moment})
    for (uint64_t seed : {1, 2, 3}) {
      Options options;
      options.completion = completion;
      options.seed = seed;
      all.push_back(options);
    }
  return all;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace ptx_test
