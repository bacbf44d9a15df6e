// The executor that runs PTX: the machine behind the interface of the runtime.
#include <sys/mman.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <cstdio>
#include <cstring>

#include "executor.h"
#include "machine/grid.h"
#include "machine/random.h"
#include "machine_image.h"
#include "sanitizer/sanitizer.h"

namespace foretoken::ptx::runtime {
namespace {

using machine::Fault;
using machine::FaultKind;

std::string hex(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// Kernels compute with the rounding and the denormals that PTX prescribes, whatever their caller has set.
class FloatingPointEnvironment {
 public:
#ifdef __SSE__
  FloatingPointEnvironment() : kept_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~FloatingPointEnvironment() { _mm_setcsr(kept_); }

 private:
  unsigned kept_;
#endif
};

class MachineExecutor : public Executor {
 public:
  MachineExecutor(const Card& card, AddressRange range, const Settings& settings)
      : card_(card), settings_(settings), memory_(range.base, range.bytes) {
    if (settings_.sanitize == Sanitize::full)
      sanitizer_ = std::make_unique<sanitizer::Sanitizer>(range.base, range.bytes);
  }

  std::unique_ptr<Image> load(std::string text, const std::string& name, const Place& place) override {
    return std::make_unique<MachineImage>(std::move(text), name, memory_, place);
  }

  void map(uint64_t address, uint64_t bytes, const std::string& name) override {
    memory_.allocate(address, bytes, name);
    sizes_[address] = bytes;
  }

  // Addresses do not come round soon: what they held must not stay in this machine's memory until then.
  void unmap(uint64_t address) override {
    constexpr uint64_t kPage = 4096;
    memory_.release(address);
    const auto size = sizes_.find(address);
    const auto begin = reinterpret_cast<uint64_t>(memory_.cell(address));
    const uint64_t first = (begin + kPage - 1) / kPage * kPage, last = (begin + size->second) / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    if (sanitizer_) sanitizer_->forget(address, size->second);
    sizes_.erase(size);
  }

  void forbid(uint64_t address, uint64_t bytes) override { memory_.forbid(address, bytes); }

  void read(void* to, uint64_t from, uint64_t bytes) override {
    require_accessible(from, bytes, "a copy to the host reads");
    const uint64_t undefined = memory_.first_undefined(from, bytes);
    if (undefined != from + bytes && settings_.sanitize != Sanitize::off)
      throw Fault(FaultKind::undefined, "a copy to the host reads an undefined value at " + hex(undefined) + ": " +
                                            memory_.describe(undefined) + ", " + writer_of(undefined));
    std::memcpy(to, memory_.cell(from), bytes);
  }

  void write(uint64_t to, const void* from, uint64_t bytes) override {
    require_accessible(to, bytes, "a copy from the host writes");
    std::memcpy(memory_.cell(to), from, bytes);
    memory_.mark_defined(to, bytes);
  }

  void copy(uint64_t to, uint64_t from, uint64_t bytes) override {
    require_accessible(from, bytes, "a copy reads");
    require_accessible(to, bytes, "a copy writes");
    if (to < from + bytes && from < to + bytes)
      throw Fault(FaultKind::usage, "a copy whose source and destination overlap, at " + hex(to));
    std::memcpy(memory_.cell(to), memory_.cell(from), bytes);
    memory_.copy_definedness(to, memory_, from, bytes);
  }

  void fill(uint64_t to, uint8_t value, uint64_t bytes) override {
    require_accessible(to, bytes, "a memset writes");
    std::memset(memory_.cell(to), value, bytes);
    memory_.mark_defined(to, bytes);
  }

  machine::Counters run(const KernelCall& call) override {
    const FloatingPointEnvironment environment;
    machine::Call grid;
    grid.code = &static_cast<MachineImage*>(call.image)->code(call.kernel);
    grid.shape = shape_of(call);
    grid.options = options();
    grid.global = &memory_;
    grid.observer = sanitizer_.get();
    grid.parameters = call.parameters;
    const machine::Result result = machine::execute(grid);
    for (const std::string& text : result.printed) std::fputs(text.c_str(), stdout);
    return result.counters;
  }

 private:
  static machine::Dimensions dimensions(const Dimensions& d) { return {d.x, d.y, d.z}; }

  machine::LaunchShape shape_of(const KernelCall& call) const {
    machine::LaunchShape shape;
    shape.grid = dimensions(call.grid);
    shape.block = dimensions(call.block);
    shape.cluster = dimensions(call.cluster);
    shape.explicit_cluster = call.cluster.count() > 1;
    shape.dynamic_shared_bytes = call.dynamic_shared_bytes;
    shape.cooperative = call.cooperative;
    shape.sm_count = static_cast<uint32_t>(card_.sm_count);
    shape.blocks_per_sm = call.blocks_per_sm;
    return shape;
  }

  // Every launch has a seed of its own, so that one seed shows a kernel many schedules.
  machine::Options options() {
    machine::Options options;
    options.seed = machine::mix(settings_.seed) + launches_++;
    options.completion = static_cast<machine::Completion>(machine::mix(options.seed) % 3);
    options.fuse = settings_.fuse;
    options.perturb_approximations = settings_.perturb;
    options.truncate_tensor_sums = settings_.truncate;
    return options;
  }

  void require_accessible(uint64_t address, uint64_t bytes, const char* who) const {
    const uint64_t bad = memory_.contains(address) ? memory_.first_inaccessible(address, bytes) : address;
    if (bad != address + bytes)
      throw Fault(FaultKind::address, std::string(who) + " " + hex(bad) + ": " + memory_.describe(bad));
  }

  std::string writer_of(uint64_t address) const {
    if (!sanitizer_) return "who wrote it only the whole sanitizer knows";
    const std::string writer = sanitizer_->last_writer(address);
    if (!writer.empty()) return "it comes from " + writer;
    const std::string nearby = writer_near(address);
    return nearby.empty() ? "no kernel has written there" : "never written, while next to it is " + nearby;
  }

  // Who wrote what lies nearest in the same allocation: whoever should have written this too.
  std::string writer_near(uint64_t address) const {
    constexpr uint64_t kFar = 4096;
    auto mapping = sizes_.upper_bound(address);
    if (mapping == sizes_.begin()) return {};
    --mapping;
    const uint64_t begin = mapping->first, end = begin + mapping->second;
    for (uint64_t distance = 1; distance < kFar; ++distance) {
      if (address - begin >= distance)
        if (const std::string before = sanitizer_->last_writer(address - distance); !before.empty()) return before;
      if (address + distance < end)
        if (const std::string behind = sanitizer_->last_writer(address + distance); !behind.empty()) return behind;
    }
    return {};
  }

  Card card_;
  Settings settings_;
  machine::Memory memory_;
  std::map<uint64_t, uint64_t> sizes_;  // start of a mapping -> bytes
  uint64_t launches_ = 0;
  std::unique_ptr<sanitizer::Sanitizer> sanitizer_;  // null: not asked for
};

}  // namespace

std::unique_ptr<Executor> make_machine_executor(const Card& card, AddressRange range, const Settings& settings) {
  return std::make_unique<MachineExecutor>(card, range, settings);
}

}  // namespace foretoken::ptx::runtime
