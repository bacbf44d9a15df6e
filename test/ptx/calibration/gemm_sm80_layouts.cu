// bf16 products in all four operand orders (ldmatrix, with .trans where an operand is not k-major), sizes that end
// inside a tile in each direction.
#include "gemm_sm80.h"

using namespace calibration;

namespace {

struct NN : HalfProducts {
  using LayoutA = ColumnMajor;
};
struct TN : HalfProducts {};
struct NT : NN {
  using LayoutB = RowMajor;
};
struct TT : HalfProducts {
  using LayoutB = RowMajor;
};

template <class C>
void run_sizes(const char* name) {
  run<C>(name, 64, 64, 32);
  run<C>(name, 96, 80, 72, 2, 1);
  run<C>(name, 200, 136, 264);
}

}  // namespace

int main() {
  run_sizes<NN>("bf16 NN");
  run_sizes<TN>("bf16 TN");
  run_sizes<NT>("bf16 NT");
  run_sizes<TT>("bf16 TT");
  run_random<TN>("bf16 TN", 96, 80, 200, 0);
}
