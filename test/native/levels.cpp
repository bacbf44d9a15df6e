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
