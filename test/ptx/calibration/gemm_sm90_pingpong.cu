// Ping-pong products with K-major operands: C and D in fp32 or bf16, C read or not, one tile and many for each block.
#include "gemm_sm90.h"

using namespace calibration;

int main() {
  using bf16 = cutlass::bfloat16_t;
  using Tile = cute::Shape<_64, _128, _64>;
  using Alone = cute::Shape<_1, _1, _1>;
  using ToFloat = Configuration<bf16, RowMajor, ColumnMajor, float, Tile, Alone, Pingpong>;
  run<ToFloat>("ping-pong TN, fp32 D, one tile", 64, 128, 64, 1, 0);
  run<ToFloat>("ping-pong TN, fp32 D, many tiles", 512, 384, 320, 1, 0);
  run<ToFloat>("ping-pong TN, fp32 C and D", 512, 384, 320, 1, 1);
  run<ToFloat>("ping-pong TN, odd sizes", 333, 268, 200, 2, 1);
  using ToBf16 = Configuration<bf16, RowMajor, ColumnMajor, bf16, Tile, Alone, Pingpong>;
  run<ToBf16>("ping-pong TN, bf16 D", 512, 384, 320, 1, 0);
  run<ToBf16>("ping-pong TN, bf16 C and D, odd sizes", 77, 136, 24, 1, 1);
}
