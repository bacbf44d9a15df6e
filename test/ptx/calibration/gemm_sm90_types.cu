// f16 and tf32: other elements of the same pipelines. tf32 has no transposed wgmma, so that the NT product takes its
// A through registers.
#include "gemm_sm90.h"

using namespace calibration;

int main() {
  using Alone = cute::Shape<_1, _1, _1>;
  using F16 = Configuration<cutlass::half_t, RowMajor, ColumnMajor, cutlass::half_t, cute::Shape<_128, _64, _64>, Alone,
                            Cooperative>;
  run<F16>("f16 TN, f16 D", 384, 320, 192, 1, 1);
  using TF32 = Configuration<cutlass::tfloat32_t, RowMajor, ColumnMajor, float, cute::Shape<_128, _128, _32>, Alone,
                             Cooperative>;
  run<TF32>("tf32 TN", 384, 320, 192, 1, 0);
  using Registers = Configuration<cutlass::tfloat32_t, ColumnMajor, RowMajor, float, cute::Shape<_128, _128, _32>,
                                  Alone, Cooperative>;
  run<Registers>("tf32 NT, A through registers", 384, 320, 192, 1, 1);
}
