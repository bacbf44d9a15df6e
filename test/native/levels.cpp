#include <set>

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
  CHECK(usable.count(cpu::default_level()) == 1);
  CHECK(cpu::backend("avx9000") == nullptr);
}
