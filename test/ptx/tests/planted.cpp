// Each planted bug is found, named with kernel, line, block and thread, under several seeds; its twin passes.
#include "planted.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "doctest.h"
#include "runtime/hooks.h"
#include "runtime/settings.h"

namespace {

using planted::Planted;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Number of the line that ends in the kernel's marker; a marker on a line of its own means the next.
int named_line(const std::string& file, const std::string& kernel) {
  std::ifstream source(file);
  const std::string marker = "// named: " + kernel;
  std::string text;
  for (int line = 1; std::getline(source, text); ++line) {
    const size_t at = text.find(marker);
    if (at == std::string::npos || at + marker.size() != text.size()) continue;
    return text.find_first_not_of(' ') == at ? line + 1 : line;
  }
  return 0;
}

void set_device(const char* card, int seed) {
  setenv("PTX_DEVICE", card, 1);
  setenv("PTX_SEED", std::to_string(seed).c_str(), 1);
  ptx_reset();
}

// What is reported; "" if nothing is.
std::string report_of(const Planted& planted, bool bug) {
  planted.run(bug);
  if (cudaDeviceSynchronize() == cudaSuccess) return "";
  return ptx_last_message();
}

void check(std::span<const Planted> all, const std::string& source, const char* card) {
  constexpr int kSeeds = 4;
  const std::string file = source.substr(source.rfind('/') + 1);
  for (const Planted& planted : all) {
    SUBCASE(planted.kernel)  // alone: --subcase=KERNEL
    for (int seed = 1; seed <= kSeeds; ++seed) {
      CAPTURE(seed);
      set_device(card, seed);
      const std::string report = report_of(planted, true);
      CAPTURE(report);
      CHECK(contains(report, planted.error));
      CHECK(contains(report, planted.also));
      if (planted.has_thread) {
        CHECK(contains(report, planted.kernel));
        CHECK(contains(report, "block ("));
        CHECK((contains(report, "thread (") || contains(report, ", threads (")));
      }
      if (planted.has_line) {
        const int line = named_line(source, planted.kernel);
        REQUIRE(line > 0);
        CHECK(contains(report, file + ":" + std::to_string(line)));
      }
      set_device(card, seed);
      CHECK(report_of(planted, false) == "");
    }
  }
  unsetenv("PTX_DEVICE");
  unsetenv("PTX_SEED");
  ptx_reset();
}

}  // namespace

TEST_CASE("sanitizer: planted bugs are found and named, their twins pass") {
  check(planted::bugs(), planted::source(), "sm_80");
}

TEST_CASE("sanitizer: the same code on an sm_90 card") { check(planted::bugs(), planted::source(), "sm_90"); }

TEST_CASE("sanitizer: planted bugs of sm_90a are found and named, their twins pass") {
  check(planted::bugs_sm90(), planted::source_sm90(), "sm_90");
}

TEST_CASE("sanitizer: a failed assertion stays with the device") {
  set_device("sm_80", 1);
  for (const Planted& planted : planted::bugs())
    if (planted.kernel == std::string("failed_assertion")) planted.run(true);
  CHECK(cudaDeviceSynchronize() == cudaErrorAssert);
  void* data = nullptr;
  CHECK(cudaMalloc(&data, 4) == cudaErrorAssert);
  unsetenv("PTX_DEVICE");
  unsetenv("PTX_SEED");
  ptx_reset();
}

TEST_CASE("sanitizer: PTX_SANITIZE says what is looked for") {
  const auto reported = [](const char* level, const char* kernel) {
    setenv("PTX_SANITIZE", level, 1);
    set_device("sm_80", 1);
    for (const Planted& planted : planted::bugs())
      if (planted.kernel == std::string(kernel)) return report_of(planted, true) != "";
    FAIL("no such bug");
    return false;
  };
  CHECK(reported("full", "blocks_write_one_word"));
  CHECK(reported("full", "half_written"));
  CHECK_FALSE(reported("memory", "blocks_write_one_word"));
  CHECK(reported("memory", "half_written"));
  CHECK_FALSE(reported("off", "blocks_write_one_word"));
  CHECK_FALSE(reported("off", "half_written"));
  CHECK(reported("off", "global_bounds"));
  setenv("PTX_SANITIZE", "some", 1);
  CHECK_THROWS_WITH(foretoken::ptx::runtime::read_settings(), "PTX_SANITIZE: expected off, memory or full, got 'some'");
  unsetenv("PTX_SANITIZE");
  unsetenv("PTX_DEVICE");
  unsetenv("PTX_SEED");
  ptx_reset();
}
