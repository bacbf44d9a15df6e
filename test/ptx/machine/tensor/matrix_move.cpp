#include "matrix_move.h"

namespace foretoken::machine {

void load_matrix(const uint16_t (*rows)[8], bool transposed, uint32_t* fragment) {
  for (int lane = 0; lane < 32; ++lane) {
    int line = lane / 4, pair = lane % 4 * 2;
    uint32_t low = transposed ? rows[pair][line] : rows[line][pair];
    uint32_t high = transposed ? rows[pair + 1][line] : rows[line][pair + 1];
    fragment[lane] = low | high << 16;
  }
}

void store_matrix(const uint32_t* fragment, bool transposed, uint16_t (*rows)[8]) {
  for (int lane = 0; lane < 32; ++lane) {
    int line = lane / 4, pair = lane % 4 * 2;
    (transposed ? rows[pair][line] : rows[line][pair]) = static_cast<uint16_t>(fragment[lane]);
    (transposed ? rows[pair + 1][line] : rows[line][pair + 1]) = static_cast<uint16_t>(fragment[lane] >> 16);
  }
}

}  // namespace foretoken::machine
