#include <algorithm>
#include <set>

#include "core/backends.h"
#include "cpu/backend.h"
#include "doctest.h"

using namespace foretoken;

TEST_CASE("every usable level has a table, the default is usable, an unknown one is refused") {
  std::set<std::string> usable;
  for (const std::string& level : cpu::usable_levels()) {
    usable.insert(level);
    REQUIRE(cpu::backend(level) != nullptr);
    CHECK(std::string(cpu::backend(level)->level) == level);
  }
  CHECK(usable.count("generic") == 1);
  CHECK(usable.count(cpu::choose_level().level) == 1);
  CHECK(cpu::backend("avx9000") == nullptr);
}

TEST_CASE("every slot of the contract is filled, at every level and for the oracle") {
  for (const std::string& level : cpu::usable_levels()) {
    CAPTURE(level);
    const Backend& backend = *cpu::backend(level);
#define X(name, ...)                                                                \
  {                                                                                 \
    bool filled = backend.kernels->name.run, has_oracle = backend.oracle->name.run; \
    CHECK_MESSAGE(filled, #name " is empty");                                       \
    CHECK_MESSAGE(has_oracle, #name " has no oracle");                              \
  }
    FORETOKEN_KERNELS(X)
#undef X
  }
}

// A processor with all levels up to this one.
static cpu::Processor made_up(const std::string& vendor, const std::string& highest) {
  const std::vector<std::string> order = {"generic", "avx2", "avx512", "avx512bf16", "amx"};
  const auto rank = std::find(order.begin(), order.end(), highest) - order.begin();
  cpu::Processor made;
  made.vendor = vendor;
  made.avx2 = rank >= 1;
  made.avx512 = rank >= 2;
  made.avx512bf16 = rank >= 3;
  made.amx = rank >= 4;
  return made;
}

TEST_CASE("the level is chosen by vendor and flags") {
  const struct {
    const char *vendor, *highest, *chosen;
  } cases[] = {
      {"GenuineIntel", "amx", "amx"},
      {"GenuineIntel", "avx512bf16", "avx512"},  // its bf16 product is slower than its fp32 FMA
      {"GenuineIntel", "avx512", "avx512"},
      {"GenuineIntel", "avx2", "avx2"},
      {"AuthenticAMD", "avx512bf16", "avx512bf16"},
      {"AuthenticAMD", "avx512", "avx512"},
      {"AuthenticAMD", "avx2", "avx2"},
      {"SomebodyElse", "avx512bf16", "avx512"},  // nothing is known of its bf16 product
      {"GenuineIntel", "generic", "generic"},
      {"SomebodyElse", "generic", "generic"},
      {"", "generic", "generic"},  // not an x86 processor
  };
  for (const auto& [vendor, highest, chosen] : cases) {
    CAPTURE(vendor);
    CAPTURE(highest);
    const cpu::Processor processor = made_up(vendor, highest);
    CHECK(std::string(cpu::choose_level(processor).level) == chosen);
    CHECK(cpu::recorded(chosen, processor));
    CHECK(cpu::usable_levels(processor).back() == highest);
  }
  CHECK_FALSE(cpu::recorded("amx", made_up("AuthenticAMD", "avx512bf16")));
  CHECK_FALSE(cpu::recorded("avx512bf16", made_up("SomebodyElse", "avx512bf16")));
}

TEST_CASE("a level that is not recorded is never chosen, but is usable") {
  const cpu::Preference table[] = {{"GenuineIntel", "amx", false, "best"}, {nullptr, "avx2", true, "next"}};
  const cpu::Processor processor = made_up("GenuineIntel", "amx");
  const cpu::Preference& chosen = cpu::choose_level(processor, table);
  CHECK(std::string(chosen.level) == "avx2");
  CHECK(std::string(chosen.reason) == "next");
  CHECK_FALSE(cpu::recorded("amx", processor, table));
  CHECK(cpu::usable_levels(processor).back() == "amx");
  const cpu::Preference nothing[] = {{nullptr, "avx2", false, "not yet"}};
  CHECK(std::string(cpu::choose_level(processor, nothing).level) == "generic");
}

TEST_CASE("any usable level opens when asked for, recorded or not") {
  for (const std::string& level : cpu::usable_levels()) {
    CAPTURE(level);
    Failure failure;
    const Backend* found = find_cpu_backend(level, failure);
    REQUIRE(found != nullptr);
    CHECK(std::string(found->level) == level);
  }
}
