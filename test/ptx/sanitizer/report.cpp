// What the sanitizer says.
#include <algorithm>
#include <sstream>

#include "sanitizer.h"

namespace foretoken::sanitizer {

namespace {

std::string text(const machine::Dimensions& d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

machine::Dimensions position(uint64_t number, const machine::Dimensions& size) {
  return {static_cast<uint32_t>(number % size.x), static_cast<uint32_t>(number / size.x % size.y),
          static_cast<uint32_t>(number / (uint64_t{size.x} * size.y))};
}

const char* name(uint32_t channel) {
  switch (channel) {
    case kWarp: return "";
    case kCopies: return "by a cp.async ";
    case kProducts: return "by a wgmma ";
    default: return "by a bulk copy ";
  }
}

}  // namespace

std::string Sanitizer::thread_of(const LaunchRecord& launch, const Reader& access) const {
  const machine::LaunchShape& shape = launch.shape;
  const uint32_t warps = static_cast<uint32_t>((shape.block.count() + machine::kLanes - 1) / machine::kLanes);
  const uint32_t agents = warps * static_cast<uint32_t>(shape.cluster.count());
  const uint32_t channel = std::min<uint32_t>(access.epoch.agent() / agents, kTransactions);
  uint32_t agent = access.epoch.agent() % agents;
  if (channel == kTransactions)
    for (const auto& [cluster, state] : clusters_)
      if (state->number == access.cluster) agent = state->warp_of(access.epoch.agent());
  const machine::Dimensions clusters{shape.grid.x / shape.cluster.x, shape.grid.y / shape.cluster.y,
                                     shape.grid.z / shape.cluster.z};
  const machine::Dimensions cluster = position(access.cluster - launch.first_cluster, clusters);
  const machine::Dimensions inside = position(agent / warps, shape.cluster);
  const machine::Dimensions block{cluster.x * shape.cluster.x + inside.x, cluster.y * shape.cluster.y + inside.y,
                                  cluster.z * shape.cluster.z + inside.z};
  const machine::Dimensions thread = position(agent % warps * machine::kLanes + access.epoch.lane(), shape.block);
  return name(channel) + ("of thread " + text(thread) + " of block " + text(block)) +
         (access.epoch.many() ? ", among others," : "");
}

std::string Sanitizer::describe(const Reader& access, bool is_write) const {
  const LaunchRecord& launch = launches_.back();
  return std::string(is_write ? "the write " : "the read ") + thread_of(launch, access) + " at " +
         launch.code->place(access.epoch.pc()) + " `" + launch.code->text(access.epoch.pc()) + "`";
}

void Sanitizer::report(machine::Context& c, const machine::MemoryEvent& event, const Conflict& conflict) {
  std::ostringstream message;
  const bool is_write = event.kind != machine::AccessKind::read;
  const char* space = event.space == machine::Space::shared ? "shared" : "global";
  const Operation* operation = event.agent ? operations_.find(event.agent) : nullptr;
  const bool by_lanes = !operation || operation->kind == OperationKind::copy;
  const int lane = by_lanes ? static_cast<int>(conflict.lane) : machine::first_lane(operation->lanes);
  if (conflict.kind == Conflict::Kind::missing_proxy_fence) {
    message << "fence.proxy.async is missing: this reads " << space << " 0x" << std::hex << conflict.address << std::dec
            << " through the asynchronous proxy after " << describe(conflict.earlier, true);
    c.fault(machine::FaultKind::usage, lane, message.str());
  }
  message << "race: this " << (is_write ? "write to " : "read of ") << space << " 0x" << std::hex << conflict.address
          << std::dec << " is not ordered after " << describe(conflict.earlier, conflict.earlier_is_write);
  c.fault(machine::FaultKind::race, lane, message.str());
}

void Sanitizer::on_print(machine::Context& c, int lane, const std::string& printed) {
  c.fault(machine::FaultKind::trap, lane, "a device printf: " + printed);
}

std::string Sanitizer::last_writer(uint64_t address) {
  const Reader write = global_.last_write(address);
  if (!write.epoch) return {};
  auto launch = std::upper_bound(launches_.begin(), launches_.end(), write.cluster,
                                 [](uint32_t cluster, const LaunchRecord& l) { return cluster < l.first_cluster; });
  if (launch == launches_.begin()) return {};
  --launch;
  return "the write " + thread_of(*launch, write) + " of kernel " + launch->kernel + ", at " +
         launch->code->place(write.epoch.pc());
}

}  // namespace foretoken::sanitizer
