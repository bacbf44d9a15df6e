// Products split along k: in turn behind a semaphore, into partial sums that a second kernel adds, and as Stream-K.
#include "cutlass/gemm/device/gemm_splitk_parallel.h"
#include "gemm_sm80.h"

using namespace calibration;

namespace {

struct Serial : HalfProducts {};

// D = αAB + βC, each of `slices` parts of k to a slab of its own; then ReduceSplitK adds the slabs.
void run_parallel(const char* name, int m, int n, int k, float alpha, float beta, int slices) {
  using C = HalfProducts;
  using Device = cutlass::gemm::device::GemmSplitKParallel<C::Element, C::LayoutA, C::Element, C::LayoutB, C::ElementD,
                                                           RowMajor, float, C::OperatorClass, cutlass::arch::Sm80,
                                                           C::Tile, C::Warp, C::Instruction, LinearCombination<C>>;
  ProblemOf<C> problem(m, n, k, alpha, beta);
  Device::Arguments arguments{{m, n, k},
                              {problem.a.device, RowMajor(k)},
                              {problem.b.device, ColumnMajor(k)},
                              {problem.c.device, RowMajor(n)},
                              {problem.d.device, RowMajor(n)},
                              {alpha, beta},
                              slices};
  Device gemm;
  Buffer<uint8_t> workspace(Device::get_workspace_size(arguments) + 1);
  require(gemm.initialize(arguments, workspace.device), "initialize");
  require(gemm.run(), "run");
  problem.check(name);
}

// As many blocks as the card holds share the k-steps of all tiles evenly; those of one tile meet through workspace.
void run_stream_k(const char* name, int m, int n, int k, float alpha, float beta) {
  using C = HalfProducts;
  using Device =
      cutlass::gemm::device::GemmUniversal<C::Element, C::LayoutA, C::Element, C::LayoutB, C::ElementD, RowMajor, float,
                                           C::OperatorClass, cutlass::arch::Sm80, C::Tile, C::Warp, C::Instruction,
                                           LinearCombination<C>, cutlass::gemm::threadblock::ThreadblockSwizzleStreamK,
                                           C::kStages, C::kAlignment, C::kAlignment>;
  ProblemOf<C> problem(m, n, k, alpha, beta);
  Device::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGemm,
                              {m, n, k},
                              1,
                              {alpha, beta},
                              problem.a.device,
                              problem.b.device,
                              problem.c.device,
                              problem.d.device,
                              0,
                              0,
                              0,
                              0,
                              k,
                              k,
                              n,
                              n,
                              -1};
  Device gemm;
  Buffer<uint8_t> workspace(Device::get_workspace_size(arguments) + 1);
  require(gemm.initialize(arguments, workspace.device), "initialize");
  require(gemm.run(), "run");
  problem.check(name);
}

}  // namespace

int main() {
  run<Serial>("serial split-k, 3 slices", 96, 80, 400, 1, 1, 3);
  run<Serial>("serial split-k, 5 slices", 64, 64, 512, 2, 0, 5);
  run_parallel("parallel split-k, 4 slices", 96, 80, 400, 1, 1, 4);
  run_stream_k("stream-k", 200, 136, 264, 2, 1);
}
