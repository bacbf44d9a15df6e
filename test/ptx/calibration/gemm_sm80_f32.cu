// fp32 operands: through the tensor cores as tf32, and by FFMA.
#include "gemm_sm80.h"

using namespace calibration;

namespace {

struct Tf32 : Tf32Products {};
struct Tf32Transposed : Tf32Products {
  using LayoutA = ColumnMajor;
  using LayoutB = RowMajor;
  using Tile = Shape<128, 64, 32>;
  using Warp = Shape<64, 32, 32>;
};
struct Simt : SimtProducts {};
// Five stages of cp.async, 4 bytes each.
struct SimtStaged : SimtProducts {
  using LayoutA = ColumnMajor;
  using LayoutB = RowMajor;
  using Tile = Shape<128, 64, 8>;
  using Warp = Shape<32, 64, 8>;
  static constexpr int kStages = 5;
};

}  // namespace

int main() {
  run<Tf32>("tf32 TN", 96, 80, 72, 1, 1);
  run<Tf32>("tf32 TN", 257, 66, 36);
  run<Tf32Transposed>("tf32 NT", 132, 68, 131);
  run<Simt>("f32 TN", 96, 80, 72, 1, 1);
  run<Simt>("f32 TN", 65, 131, 33);
  run<SimtStaged>("f32 NT, 5 stages", 129, 67, 41, 2, 1);
  run_random<Simt>("f32 TN", 70, 66, 100, 0);
}
