// PTX_TOTALS: a file that gets one object of JSON when the process ends, with what hooks.h counts. A test that runs a
// program twice, of n steps and of 2n, learns from the difference what one step asks of CUDA.
#include <cstdlib>
#include <fstream>

#include "hooks.h"

namespace foretoken::ptx::runtime {
namespace {

void write_totals() {
  PtxCounters counters{};
  ptx_counters(&counters);
  std::ofstream(std::getenv("PTX_TOTALS"))
      << "{\"launches\":" << counters.launches << ",\"copies\":" << counters.copies << ",\"fills\":" << counters.fills
      << ",\"host_functions\":" << counters.host_functions << ",\"graph_launches\":" << counters.graph_launches
      << ",\"synchronizations\":" << counters.synchronizations << ",\"queries\":" << counters.queries
      << ",\"allocations\":" << counters.allocations << ",\"frees\":" << counters.frees
      << ",\"executed\":" << counters.executed << "}\n";
}

[[maybe_unused]] const bool asked_for = std::getenv("PTX_TOTALS") && std::atexit(write_totals) == 0;

}  // namespace
}  // namespace foretoken::ptx::runtime
