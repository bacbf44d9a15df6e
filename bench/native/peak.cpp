// What can this machine do at most? Multiply-adds from registers alone, with each instruction a level uses, and reading
// memory from end to end; all threads, the best and the median of several rounds. One line of JSON per figure.
//
//   bench_peak [rounds]      FORETOKEN_THREADS threads
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "machine.h"

using namespace foretoken;

namespace {

template <class Measure>
void report(const char* what, const char* unit, int rounds, const Measure& measure) {
  std::vector<double> values;
  measure();
  for (int round = 0; round < rounds; round++) values.push_back(measure());
  std::sort(values.begin(), values.end());
  std::printf("{\"what\": \"%s\", \"unit\": \"%s\", \"median\": %.2f, \"best\": %.2f}\n", what, unit,
              values[values.size() / 2], values.back());
}

}  // namespace

int main(int count, char** arguments) {
  int rounds = count > 1 ? std::max(1, std::atoi(arguments[1])) : 15;
  Threads threads;
  std::vector<std::string> levels = cpu::usable_levels();
  for (const Loop& loop : kLoops) {
    if (std::find(levels.begin(), levels.end(), loop.level) == levels.end()) continue;
    cpu::backend(loop.level);  // AMX is asked of the system by the backend
    report(loop.instruction, "GFLOP/s", rounds, [&] { return multiply_gflops(threads, loop.run); });
  }
  for (int megabytes : {1, 8, 16, 32, 64, 512}) {
    Words memory(static_cast<size_t>(megabytes) << 20);
    std::string what = "reading " + std::to_string(megabytes) + " MB";
    report(what.c_str(), "GB/s", rounds, [&] { return read_gigabytes(threads, memory); });
  }
}
