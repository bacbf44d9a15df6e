// ldmatrix, stmatrix and movmatrix on plain rows: 8×8 matrices of 16-bit elements, a row of eight in 16 bytes.
#pragma once
#include <cstdint>

namespace foretoken::machine {

// Lane l of a fragment holds row l / 4, columns 2 (l % 4) and the next, the lower one in the low half; transposed:
// column l / 4, rows 2 (l % 4) and the next. `rows`: eight of the matrix's rows.
void load_matrix(const uint16_t (*rows)[8], bool transposed, uint32_t* fragment);
void store_matrix(const uint32_t* fragment, bool transposed, uint16_t (*rows)[8]);

}  // namespace foretoken::machine
