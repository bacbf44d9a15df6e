// Tiles, warps and stages of f16 and bf16 products, D in 16 bits.
#include "gemm_sm80.h"

using namespace calibration;

namespace {

struct Large : HalfProducts {
  using Element = f16;
  using ElementD = f16;
  using Tile = Shape<128, 128, 32>;
  using Warp = Shape<64, 64, 32>;
  static constexpr int kStages = 4, kAlignmentD = 8;
};
struct Wide : HalfProducts {
  using ElementD = bf16;
  using LayoutB = RowMajor;
  using Tile = Shape<64, 256, 32>;
  using Warp = Shape<64, 64, 32>;
  static constexpr int kStages = 3, kAlignmentD = 8;
};
struct Deep : HalfProducts {
  using ElementD = bf16;
  using Tile = Shape<128, 64, 64>;
  using Warp = Shape<64, 32, 64>;
  static constexpr int kStages = 5, kAlignmentD = 4;
};
// Two warps along k, whose sums meet in shared memory.
struct Sliced : HalfProducts {
  using Element = f16;
  using Tile = Shape<64, 64, 64>;
  using Warp = Shape<64, 32, 32>;
};

}  // namespace

int main() {
  run<Large>("f16 128x128x32, 4 stages", 128, 128, 32);
  run<Large>("f16 128x128x32, 4 stages", 264, 136, 96, 1, 1);
  run_random<Large>("f16 128x128x32, 4 stages", 128, 136, 64, 0x1p-11);
  run<Wide>("bf16 64x256x32, 3 stages", 72, 520, 200);
  run<Deep>("bf16 128x64x64, 5 stages", 257, 68, 392, 2, -1);
  run_random<Deep>("bf16 128x64x64, 5 stages", 130, 68, 72, 0x1p-8);
  run<Sliced>("f16 64x64x64 sliced along k", 130, 96, 200);
}
