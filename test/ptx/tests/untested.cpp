// Whether every row of the table has a test: a row is a handler, one for each operation, type and rounding. All
// handlers that there are, by the symbols of this program, must have been executed by the tests before; doctest runs
// files in the order of their names, and this one is the last.
#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>

#include "doctest.h"
#include "ptx_device.h"

namespace {

using foretoken::machine::Handler;

constexpr const char* kSignature = "(foretoken::machine::Context&, foretoken::machine::Instruction const&)";

// Of the same signature, and no instruction: what is undefined in a result, and a step of the barriers.
constexpr const char* kHelpers[] = {"poison",         "poison_halves",   "poison_each_half",
                                    "propagate_copy", "propagate_logic", "arrive_at"};
// They end the launch: tests of faults execute them.
constexpr const char* kFinal[] = {"trap", "call_assertfail"};
// Without an effect on values: hints, and fences, whose tests are the sanitizer's planted bugs.
constexpr const char* kHints[] = {"nothing", "aligned_nothing", "policy", "membar",
                                  "each_lane<&(anonymous namespace)::prefetch_lane>"};
// Held against the host's library by the programs of ../calibration, over more arguments than a test here could.
constexpr const char* kCalibrated[] = {"reciprocal_square_root",
                                       "approximate<(anonymous namespace)::Sine, true>",
                                       "approximate<(anonymous namespace)::HyperbolicTangent, true>",
                                       "call_vprintf",
                                       "match<unsigned long, true>",
                                       "isspacep"};

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : "";
  std::free(text);
  return result;
}

std::string without(std::string text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

// The function's own name and template arguments.
std::string short_name(const std::string& name) {
  std::string text = without(without(without(name, kSignature), "foretoken::machine::"), "Outcome ");
  const std::string scope = "(anonymous namespace)::";
  return text.rfind(scope, 0) == 0 ? text.substr(scope.size()) : text;
}

bool is_handler(const std::string& name) {
  const std::string ending = kSignature;
  if (name.size() < ending.size() || name.substr(name.size() - ending.size()) != ending) return false;
  if (name.rfind("void ", 0) == 0 || ptx_test::contains(name, "{lambda")) return false;
  for (const auto& list : {std::span<const char* const>(kHelpers), std::span<const char* const>(kFinal),
                           std::span<const char* const>(kHints), std::span<const char* const>(kCalibrated)})
    if (std::find(list.begin(), list.end(), short_name(name)) != list.end()) return false;
  return true;
}

// Where this program has been loaded.
uint64_t load_address() {
  uint64_t result = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        *static_cast<uint64_t*>(to) = info->dlpi_addr;
        return 1;  // the program itself comes first
      },
      &result);
  return result;
}

struct Row {
  std::string name;
  Handler handler = nullptr;
};

std::vector<Row> all_rows() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image.data() + header->e_shoff);
  const uint64_t base = load_address();
  std::vector<Row> rows;
  for (int s = 0; s < header->e_shnum; ++s) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const char* names = image.data() + sections[sections[s].sh_link].sh_offset;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(image.data() + sections[s].sh_offset);
    for (uint64_t k = 0; k < sections[s].sh_size / sizeof(Elf64_Sym); ++k) {
      if (ELF64_ST_TYPE(symbols[k].st_info) != STT_FUNC) continue;
      const std::string name = demangled(names + symbols[k].st_name);
      if (is_handler(name)) rows.push_back({name, reinterpret_cast<Handler>(base + symbols[k].st_value)});
    }
  }
  return rows;
}

}  // namespace

TEST_CASE("the table: every row has been executed by a test") {
  const std::vector<Row> rows = all_rows();
  CHECK(rows.size() > 500);  // the symbols are there
  for (const Row& row : rows) {
    CAPTURE(short_name(row.name));
    CHECK(ptx_test::executed_handlers().count(row.handler) == 1);
  }
}
