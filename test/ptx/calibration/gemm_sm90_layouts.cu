// Cooperative products in the other operand orders: wgmma with transposed operands of shared memory.
#include "gemm_sm90.h"

using namespace calibration;

int main() {
  using bf16 = cutlass::bfloat16_t;
  using Tile = cute::Shape<_128, _128, _64>;
  using Alone = cute::Shape<_1, _1, _1>;
  using TN = Configuration<bf16, RowMajor, ColumnMajor, float, Tile, Alone, Cooperative>;
  run<TN>("cooperative TN", 640, 384, 192, 1, 1);
  using NN = Configuration<bf16, ColumnMajor, ColumnMajor, float, Tile, Alone, Cooperative>;
  run<NN>("cooperative NN", 640, 384, 192, 1, 0);
  run<NN>("cooperative NN, odd sizes", 328, 212, 72, 1, 1);
  using NT = Configuration<bf16, ColumnMajor, RowMajor, float, Tile, Alone, Cooperative>;
  run<NT>("cooperative NT", 640, 384, 192, 1, 0);
  run<NT>("cooperative NT, odd sizes", 328, 216, 51, 1, 1);
  using TT = Configuration<bf16, RowMajor, RowMajor, float, Tile, Alone, Cooperative>;
  run<TT>("cooperative TT", 640, 384, 192, 1, 0);
  run<TT>("cooperative TT, odd sizes", 321, 216, 72, 1, 1);
}
