#include "matrix_move.h"

#include <cstring>

namespace foretoken::machine {

void load_matrix(const uint16_t (*rows)[8], bool transposed, uint32_t* fragment) {
  if (!transposed) {
    std::memcpy(fragment, rows, 128);  // the rows behind each other
    return;
  }
  for (int lane = 0; lane < 32; ++lane) {
    int line = lane / 4, pair = lane % 4 * 2;
    fragment[lane] = rows[pair][line] | static_cast<uint32_t>(rows[pair + 1][line]) << 16;
  }
}

void store_matrix(const uint32_t* fragment, bool transposed, uint16_t (*rows)[8]) {
  if (!transposed) {
    std::memcpy(rows, fragment, 128);
    return;
  }
  for (int lane = 0; lane < 32; ++lane) {
    int line = lane / 4, pair = lane % 4 * 2;
    rows[pair][line] = static_cast<uint16_t>(fragment[lane]);
    rows[pair + 1][line] = static_cast<uint16_t>(fragment[lane] >> 16);
  }
}

}  // namespace foretoken::machine
