#include "work.h"

#include <chrono>
#include <cstring>

#include "host_memory.h"
#include "runtime.h"

namespace foretoken::ptx::runtime {

void KernelWork::run(Device& device) {
  if (device.dry) {
    device.record_launch(*this, {});
    return;
  }
  KernelCall call;
  call.image = kernel->binary->image.get();
  call.kernel = kernel->kernel->name;
  call.grid = grid;
  call.block = block;
  call.cluster = cluster;
  call.dynamic_shared_bytes = dynamic_shared_bytes;
  call.parameters = parameters;
  call.cooperative = cooperative;
  call.blocks_per_sm = blocks_per_sm;
  device.record_launch(*this, device.executor->run(call));
}

void CopyWork::stage() {
  staged.resize(width * height);
  for (size_t row = 0; row < height; row++) std::memcpy(staged.data() + row * width, from + row * from_pitch, width);
  from = staged.data();
  from_pitch = width;
}

void CopyWork::enqueued(HostMemory& memory, bool poison) {
  if (pinned_target && poison)
    for (size_t row = 0; row < height; row++) memory.poison(to + row * to_pitch, width);
  if (pinned_source) memory.begin_read(from, (height - 1) * from_pitch + width);
}

// A dry device holds nothing: what is read from it is zero.
void CopyWork::run(Device& device) {
  for (size_t row = 0; row < height; row++) {
    char* target = to + row * to_pitch;
    const char* source = from + row * from_pitch;
    const auto target_address = reinterpret_cast<uint64_t>(target), source_address = reinterpret_cast<uint64_t>(source);
    if (to_side == Side::host && from_side == Side::host) {
      std::memcpy(target, source, width);
    } else if (device.dry) {
      if (to_side == Side::host) std::memset(target, 0, width);
    } else if (to_side == Side::host) {
      from_device->executor->read(target, source_address, width);
    } else if (from_side == Side::host) {
      to_device->executor->write(target_address, source, width);
    } else if (to_device == from_device) {
      to_device->executor->copy(target_address, source_address, width);
    } else {
      std::vector<char> between(width);
      from_device->executor->read(between.data(), source_address, width);
      to_device->executor->write(target_address, between.data(), width);
    }
  }
}

void CopyWork::finished(Device&, HostMemory& memory) {
  if (pinned_source) memory.end_read(from, (height - 1) * from_pitch + width);
}

void FillWork::run(Device& device) {
  if (device.dry) return;
  for (size_t row = 0; row < height; row++) owner->executor->fill(to + row * pitch, value, width);
}

void FreeWork::finished(Device& device, HostMemory&) { device.memory->release(address); }

void RecordWork::finished(Device&, HostMemory&) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  milliseconds = std::chrono::duration<double, std::milli>(now).count();
}

}  // namespace foretoken::ptx::runtime
