// Odd sizes: operands aligned to 1, 2 or 4 elements (cp.async of 4 and 8 bytes; below that, loads and stores of the
// two-stage main loop).
#include "gemm_sm80.h"

using namespace calibration;

namespace {

struct Four : HalfProducts {
  static constexpr int kAlignment = 4, kAlignmentD = 2;
};
struct Two : HalfProducts {
  using LayoutA = ColumnMajor;
  using LayoutB = RowMajor;
  static constexpr int kAlignment = 2;
};
struct One : HalfProducts {
  using Element = f16;
  static constexpr int kStages = 2, kAlignment = 1;
};
struct OneTransposed : One {
  using LayoutA = ColumnMajor;
  using LayoutB = RowMajor;
};

}  // namespace

int main() {
  run<Four>("bf16 aligned to 4", 257, 130, 68, 1, 1);
  run<Two>("bf16 aligned to 2", 130, 66, 77);
  run<One>("f16 aligned to 1", 129, 67, 35);
  run<One>("f16 aligned to 1", 1, 1, 1);
  run<OneTransposed>("f16 aligned to 1, NT", 65, 33, 71, 1, 1);
}
