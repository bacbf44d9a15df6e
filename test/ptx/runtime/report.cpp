#include "report.h"

#include <fstream>

namespace foretoken::ptx::runtime {
namespace {

void write(std::ostream& out, const char* name, const Dimensions& d) {
  out << ",\"" << name << "\":[" << d.x << ',' << d.y << ',' << d.z << ']';
}

void write(std::ostream& out, const char* name, uint64_t value) { out << ",\"" << name << "\":" << value; }

// Mangled names and file names of a compiler need no more than this.
std::string quoted(const std::string& text) { return '"' + text + '"'; }

}  // namespace

void report_launch(const std::string& file, const KernelWork& work, const Card& card,
                   const machine::Counters& counters) {
  std::ofstream out(file, std::ios::app);
  out << "{\"kernel\":" << quoted(work.kernel->kernel->name) << ",\"device\":\"sm_" << card.architecture.version()
      << '"';
  write(out, "grid", work.grid);
  write(out, "block", work.block);
  write(out, "cluster", work.cluster);
  write(out, "dynamic_shared_bytes", work.dynamic_shared_bytes);
  write(out, "static_shared_bytes", work.kernel->info.static_shared_bytes);
  write(out, "registers", work.kernel->registers);
  write(out, "local_bytes", work.kernel->info.local_bytes);
  write(out, "blocks_per_sm", work.blocks_per_sm);
  out << ",\"instructions\":{";
  for (int i = 0; i < machine::kClasses; i++) {
    const auto name = machine::class_name(static_cast<machine::Class>(i));
    out << (i ? "," : "") << '"' << name << "\":[" << counters.instructions[static_cast<size_t>(i)] << ','
        << counters.lane_instructions[static_cast<size_t>(i)] << ']';
  }
  out << '}';
  write(out, "tensor_flop", counters.tensor_flop);
  write(out, "load_sectors", counters.load_sectors);
  write(out, "load_sectors_minimum", counters.load_sectors_minimum);
  write(out, "load_bytes", counters.load_bytes);
  write(out, "store_sectors", counters.store_sectors);
  write(out, "store_sectors_minimum", counters.store_sectors_minimum);
  write(out, "store_bytes", counters.store_bytes);
  write(out, "asynchronous_bytes", counters.asynchronous_bytes);
  write(out, "shared_wavefronts", counters.shared_wavefronts);
  write(out, "shared_wavefronts_excess", counters.shared_wavefronts_excess);
  write(out, "atomics", counters.atomics);
  write(out, "barriers", counters.barriers);
  write(out, "blocks", counters.blocks);
  write(out, "warps", counters.warps);
  write(out, "divergent_branches", counters.divergent_branches);
  out << "}\n";
}

}  // namespace foretoken::ptx::runtime
