// ldmatrix and stmatrix: the manual's table of which thread holds which element.
#include <initializer_list>

#include "../machine/tensor/matrix_move.h"
#include "doctest.h"

using namespace foretoken::machine;

TEST_CASE("ldmatrix: thread 4r + c holds elements 2c and 2c + 1 of row r, transposed of column r") {
  uint16_t rows[8][8];
  for (int r = 0; r < 8; ++r)
    for (int c = 0; c < 8; ++c) rows[r][c] = static_cast<uint16_t>(16 * r + c);
  uint32_t straight[32], transposed[32];
  load_matrix(rows, false, straight);
  load_matrix(rows, true, transposed);
  for (int r = 0; r < 8; ++r)
    for (int c = 0; c < 4; ++c) {
      CHECK(straight[4 * r + c] == 16u * r + 2 * c + ((16u * r + 2 * c + 1) << 16));
      CHECK(transposed[4 * r + c] == 16u * (2 * c) + r + ((16u * (2 * c + 1) + r) << 16));
    }
}

TEST_CASE("stmatrix: the inverse of ldmatrix, transposed too") {
  uint32_t fragment[32], back[32];
  for (uint32_t lane = 0; lane < 32; ++lane) fragment[lane] = lane * 0x01010203u;
  for (bool transposed : {false, true}) {
    uint16_t rows[8][8] = {};
    store_matrix(fragment, transposed, rows);
    load_matrix(rows, transposed, back);
    for (int lane = 0; lane < 32; ++lane) CHECK(back[lane] == fragment[lane]);
    load_matrix(rows, !transposed, back);
    CHECK(back[1] != fragment[1]);
  }
}
