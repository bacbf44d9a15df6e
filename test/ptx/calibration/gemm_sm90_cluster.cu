// Clusters: operands multicast to two blocks, along M and along N, cooperative and ping-pong.
#include "gemm_sm90.h"

using namespace calibration;

int main() {
  using bf16 = cutlass::bfloat16_t;
  using AlongM = cute::Shape<_2, _1, _1>;
  using TN = Configuration<bf16, RowMajor, ColumnMajor, float, cute::Shape<_128, _128, _64>, AlongM, Cooperative>;
  run<TN>("cluster 2x1, cooperative TN", 1024, 512, 256, 1, 0);
  run<TN>("cluster 2x1, cooperative TN, odd sizes, fp32 C", 700, 300, 136, 1, 1);
  using AlongN = cute::Shape<_1, _2, _1>;
  using NT = Configuration<bf16, ColumnMajor, RowMajor, bf16, cute::Shape<_64, _256, _64>, AlongN, Pingpong>;
  run<NT>("cluster 1x2, ping-pong NT, bf16 D", 512, 1024, 256, 1, 0);
  run<NT>("cluster 1x2, ping-pong NT, odd sizes, bf16 C and D", 200, 760, 72, 1, 1);
}
