#include "call.h"

#include <sstream>

#include "access.h"
#include "code.h"
#include "memory_operand.h"

namespace foretoken::machine {

namespace {

// Bytes to copy within a lane's call area.
struct Copy {
  uint32_t from = 0, to = 0, bytes = 0;
};

void copy_lanes(Context& c, const std::vector<Copy>& copies) {
  const uint64_t stride = c.launch->code->program.call_area_bytes;
  for (const Copy& copy : copies)
    for (int lane : each(c.lanes)) {
      const uint64_t base = static_cast<uint64_t>(lane) * stride;
      std::memcpy(c.warp->call_area + base + copy.to, c.warp->call_area + base + copy.from, copy.bytes);
      std::memcpy(c.warp->call_area_shadow + base + copy.to, c.warp->call_area_shadow + base + copy.from, copy.bytes);
    }
}

// What a call site hands over and gets back: places of its .param variables.
struct CallPlan {
  std::vector<uint32_t> arguments, results;  // offsets in the call area
};

uint32_t variable_offset(Form& form, const ptx::Operand& o) {
  if (o.kind != ptx::OperandKind::symbol || o.symbol != ptx::SymbolKind::local_variable)
    form.refuse("arguments and results of calls must be .param variables");
  return form.plan.call_parameter_base + form.plan.function->variables[o.index].offset;
}

std::vector<Copy> copies_in(const CallPlan& call, const ptx::FunctionPlan& callee) {
  std::vector<Copy> copies;
  const auto& parameters = callee.function->parameters;
  for (size_t k = 0; k < parameters.size() && k < call.arguments.size(); ++k)
    copies.push_back({call.arguments[k], callee.parameter_base + parameters[k].offset, parameters[k].size});
  return copies;
}

std::vector<Copy> copies_out(const CallPlan& call, const ptx::FunctionPlan& callee) {
  std::vector<Copy> copies;
  const auto& returns = callee.function->returns;
  for (size_t k = 0; k < returns.size() && k < call.results.size(); ++k)
    copies.push_back({callee.return_base + returns[k].offset, call.results[k], returns[k].size});
  return copies;
}

Outcome enter(Context& c, const Instruction& i, const ptx::FunctionPlan& callee, Mask lanes) {
  Split& split = *c.split;
  // Lanes that come back here for another callee have this meeting already.
  if (split.meetings.empty() || split.meetings.back().pc != c.pc + 1)
    split.meetings.push_back({c.pc + 1, ++c.launch->divergences});
  if (const Mask others = split.lanes & ~lanes) {
    const Mask uncalled = others & ~c.lanes, called = others & c.lanes;
    if (uncalled) c.divide(uncalled).pc = c.pc + 1;
    if (called) c.divide(called);
  }
  copy_lanes(c, copies_in(*static_cast<const CallPlan*>(i.plan), callee));
  split.return_pcs.push_back(c.pc + 1);
  split.pc = c.launch->code->start_of(callee);
  return Outcome::jump;
}

Outcome call_direct(Context& c, const Instruction& i) {
  return enter(c, i, c.launch->code->program.functions[i.parameter[0]], c.lanes);
}

Outcome call_indirect(Context& c, const Instruction& i) {
  const Operand& pointer = i[static_cast<int>(i.parameter[1])];
  c.require_defined(pointer, "which function is called");
  const uint64_t* row = c.source<uint64_t>(pointer);
  const int first = first_lane(c.lanes);
  const ptx::FunctionPlan* callee = c.launch->code->function_at(row[first]);
  if (!callee) c.fault(FaultKind::usage, first, "a call through a pointer that is no function");
  for (uint32_t pc : c.split->return_pcs)
    if (c.launch->code->origins[pc].function ==
        static_cast<uint32_t>(callee - c.launch->code->program.functions.data()))
      c.fault(FaultKind::unsupported, first, "recursion");
  Mask same = 0;
  for (int lane : each(c.lanes)) same |= static_cast<Mask>(row[lane] == row[first]) << lane;
  return enter(c, i, *callee, same);
}

Outcome return_from(Context& c, const Instruction&) {
  Split& split = *c.split;
  if (const Mask others = split.lanes & ~c.lanes) c.divide(others).pc = c.pc + 1;
  const uint32_t back = split.return_pcs.back();
  const Code& code = *c.launch->code;
  const ptx::FunctionPlan& callee = code.program.functions[code.origins[c.pc].function];
  copy_lanes(c, copies_out(*static_cast<const CallPlan*>(code.instructions[back - 1].plan), callee));
  split.return_pcs.pop_back();
  split.pc = back;
  return Outcome::jump;
}

// --- the system's functions

template <class T>
T argument(Context& c, int lane, uint32_t offset) {
  T value;
  std::memcpy(&value,
              c.warp->call_area + static_cast<uint64_t>(lane) * c.launch->code->program.call_area_bytes + offset,
              sizeof value);
  return value;
}

void read_generic(Context& c, int lane, uint64_t address, uint32_t bytes, void* to) {
  uint64_t addresses[kLanes];
  std::fill_n(addresses, kLanes, address);
  const Mask all = c.lanes;
  c.lanes = 1u << lane;
  for_each_place(c, Space::generic, addresses, [&](const Place& place, const uint64_t* at) {
    if (place.memory) {
      read_bytes(c, *place.memory, lane, at[lane], bytes, to, "load");
    } else {
      check_lane_access(c, place.lane_memory, lane, at[lane], bytes, "load");
      std::memcpy(to, place.lane_memory.values + static_cast<uint64_t>(lane) * place.lane_memory.bytes + at[lane],
                  bytes);
    }
  });
  c.lanes = all;
}

std::string read_text(Context& c, int lane, uint64_t address) {
  std::string text;
  for (char ch = 1; ch != 0;) {
    read_generic(c, lane, address++, 1, &ch);
    if (ch) text += ch;
  }
  return text;
}

// One conversion of a format: everything up to its letter, given to snprintf with the value as read.
std::string format_one(Context& c, int lane, std::string spec, uint64_t& arguments) {
  const char letter = spec.back();
  const bool is_long = spec.find('l') != std::string::npos || spec.find('z') != std::string::npos || letter == 'p';
  const uint32_t bytes = is_long || std::string("eEfFgGas").find(letter) != std::string::npos ? 8 : 4;
  arguments = (arguments + bytes - 1) / bytes * bytes;
  char buffer[512];
  if (bytes == 4) {
    int value;
    read_generic(c, lane, arguments, 4, &value);
    std::snprintf(buffer, sizeof buffer, spec.c_str(), value);
  } else if (letter == 's') {
    uint64_t pointer;
    read_generic(c, lane, arguments, 8, &pointer);
    std::snprintf(buffer, sizeof buffer, spec.c_str(), read_text(c, lane, pointer).c_str());
  } else if (std::string("eEfFgGa").find(letter) != std::string::npos) {
    double value;
    read_generic(c, lane, arguments, 8, &value);
    std::snprintf(buffer, sizeof buffer, spec.c_str(), value);
  } else {
    long long value;
    read_generic(c, lane, arguments, 8, &value);
    std::snprintf(buffer, sizeof buffer, spec.c_str(), value);
  }
  arguments += bytes;
  return buffer;
}

std::string format_text(Context& c, int lane, const std::string& format, uint64_t arguments) {
  std::string text;
  for (size_t k = 0; k < format.size(); ++k) {
    if (format[k] != '%') {
      text += format[k];
      continue;
    }
    std::string spec = "%";
    while (++k < format.size()) {
      spec += format[k];
      if (std::isalpha(static_cast<unsigned char>(format[k])) && !std::strchr("hlzjt", format[k])) break;
      if (format[k] == '%') break;
    }
    text += spec == "%%" ? "%" : format_one(c, lane, spec, arguments);
  }
  return text;
}

Outcome call_vprintf(Context& c, const Instruction& i) {
  const CallPlan& plan = *static_cast<const CallPlan*>(i.plan);
  for (int lane : each(c.lanes)) {
    const std::string format = read_text(c, lane, argument<uint64_t>(c, lane, plan.arguments[0]));
    c.launch->printed.push_back(format_text(c, lane, format, argument<uint64_t>(c, lane, plan.arguments[1])));
    if (c.launch->observer) c.launch->observer->on_print(c, lane, c.launch->printed.back());
    if (!plan.results.empty()) {
      const uint64_t at = static_cast<uint64_t>(lane) * c.launch->code->program.call_area_bytes + plan.results[0];
      const uint32_t result = 1;
      std::memcpy(c.warp->call_area + at, &result, 4);
      std::memset(c.warp->call_area_shadow + at, 0, 4);
    }
  }
  return Outcome::next;
}

Outcome call_assertfail(Context& c, const Instruction& i) {
  const CallPlan& plan = *static_cast<const CallPlan*>(i.plan);
  const int lane = first_lane(c.lanes);
  std::ostringstream text;
  text << "assertion failed: " << read_text(c, lane, argument<uint64_t>(c, lane, plan.arguments[0])) << " ("
       << read_text(c, lane, argument<uint64_t>(c, lane, plan.arguments[1])) << ":"
       << argument<uint32_t>(c, lane, plan.arguments[2]) << ")";
  c.fault(FaultKind::assertion, lane, text.str());
}

}  // namespace

void select_call(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.take("uni");
  form.expect_operands(3, 4);
  CallPlan plan;
  for (const ptx::Operand& o : form.operand(0).elements) plan.results.push_back(variable_offset(form, o));
  for (const ptx::Operand& o : form.operand(2).elements) plan.arguments.push_back(variable_offset(form, o));
  form.instruction.plan = form.keep(plan);
  const ptx::Operand& callee = form.operand(1);
  if (callee.kind == ptx::OperandKind::reg) {
    form.instruction.parameter[1] = static_cast<uint32_t>(form.flat(1));
    return form.use(call_indirect);
  }
  if (callee.kind != ptx::OperandKind::symbol || callee.symbol != ptx::SymbolKind::function) form.unknown();
  const ptx::Function& function = *form.code.program.module->functions[callee.index];
  if (function.is_declared_only) {
    if (function.name == "vprintf" && plan.arguments.size() == 2) return form.use(call_vprintf);
    if (function.name == "__assertfail" && plan.arguments.size() == 5) return form.use(call_assertfail);
    form.refuse("a function that is not defined");
  }
  for (const auto* list : {&function.parameters, &function.returns})
    for (const ptx::Parameter& parameter : *list)
      if (parameter.reg) form.refuse("functions with register parameters");
  form.instruction.parameter[0] = form.code.program.plan_of.at(&function);
  form.use(call_direct);
}

void select_return(Form& form) {
  form.instruction.category = Class::control;
  form.instruction.results = 0;
  form.expect_operands(0, 0);
  form.use(return_from);
}

}  // namespace foretoken::machine
