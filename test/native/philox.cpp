#include "core/philox.h"

#include "doctest.h"

using foretoken::Philox;

static void check_words(const Philox& got, const Philox& wanted) {
  for (int i = 0; i < 4; i++) CHECK(got.v[i] == wanted.v[i]);
}

// Known answers of Random123 (kat_vectors, philox4x32 10).
TEST_CASE("philox: known answers of Random123") {
  check_words(foretoken::philox4x32({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  check_words(foretoken::philox4x32({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u),
              {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  check_words(foretoken::philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
              {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("philox: seed is the key, index and stream are the counter, low word first") {
  check_words(foretoken::philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
              {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("philox: uniform numbers lie in (0, 1]") {
  CHECK(foretoken::philox_uniform(0) == 0x1p-24f);
  CHECK(foretoken::philox_uniform(0xffffffff) == 1.0f);
  CHECK(foretoken::philox_uniform(0x80000000) == 0.5f + 0x1p-24f);
}
