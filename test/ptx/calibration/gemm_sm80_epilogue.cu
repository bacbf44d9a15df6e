// Epilogues: a visitor tree, D = relu((AB + bias) + C), and CUTLASS 2.x's own LinearCombinationRelu.
#include "cutlass/epilogue/thread/activation.h"
#include "cutlass/epilogue/thread/linear_combination_relu.h"
#include "cutlass/gemm/device/gemm.h"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/kernel/default_gemm_universal_with_visitor.h"
#include "gemm_sm80.h"

// Needs those before it.
#include "cutlass/epilogue/threadblock/fusion/visitors.hpp"

using namespace calibration;

namespace {

using C = HalfProducts;
using cute::_0;
using cute::_1;
using Tile = Shape<128, 64, 32>;
using Warp = Shape<64, 32, 32>;
constexpr int kAlignmentD = 4;
constexpr auto kRound = cutlass::FloatRoundStyle::round_to_nearest;

namespace epilogue = cutlass::epilogue::threadblock;
using Threads = epilogue::OutputTileThreadLayout<Tile, Warp, float, kAlignmentD, 1>;
using Rows = cute::Stride<int64_t, _1, int64_t>;
using Bias = epilogue::VisitorRowBroadcast<Threads, float, cute::Stride<_0, _1, int32_t>>;
using Residual = epilogue::VisitorAuxLoad<Threads, float, Rows>;
using Store = epilogue::VisitorAuxStore<Threads, float, kRound, Rows>;
template <template <class> class Operation>
using Compute = epilogue::VisitorCompute<Operation, float, float, kRound>;
using Biased = epilogue::Sm80EVT<Compute<cutlass::plus>, epilogue::VisitorAccFetch, Bias>;
using Sum = epilogue::Sm80EVT<Compute<cutlass::plus>, Biased, Residual>;
using Rectified = epilogue::Sm80EVT<Compute<cutlass::epilogue::thread::ReLu>, Sum>;
using Tree = epilogue::Sm80EVT<Store, Rectified>;

using Visited = cutlass::gemm::device::GemmUniversalAdapter<cutlass::gemm::kernel::DefaultGemmWithVisitor<
    C::Element, C::LayoutA, cutlass::ComplexTransform::kNone, C::kAlignment, C::Element, C::LayoutB,
    cutlass::ComplexTransform::kNone, C::kAlignment, float, RowMajor, kAlignmentD, float, float, C::OperatorClass,
    cutlass::arch::Sm80, Tile, Warp, C::Instruction, Tree, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>,
    4, C::Operator, 1>::GemmKernel>;

using Relu =
    cutlass::gemm::device::Gemm<C::Element, C::LayoutA, C::Element, C::LayoutB, float, RowMajor, float,
                                C::OperatorClass, cutlass::arch::Sm80, Tile, Warp, C::Instruction,
                                cutlass::epilogue::thread::LinearCombinationRelu<float, kAlignmentD, float, float>>;

// relu(sum over k + what(row, column))
template <class Addend>
void check(const char* name, ProblemOf<C>& problem, Addend addend) {
  finish(name);
  problem.d.to_host();
  const auto [m, n, k] = std::array{problem.m, problem.n, problem.k};
  size_t wrong = 0;
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < n; ++column) {
      float sum = addend(row, column);
      for (int i = 0; i < k; ++i)
        sum += float(problem.a.host[at<C::LayoutA>(row, i, m, k)]) *
               float(problem.b.host[at<C::LayoutB>(i, column, k, n)]);
      wrong += problem.d.host[at<RowMajor>(row, column, m, n)] != std::max(sum, 0.0f);
    }
  std::printf("%s %dx%dx%d: %s\n", name, m, n, k, wrong ? "WRONG" : "exact");
  require(wrong == 0, name, "differs from the plain loop");
}

void run_visited(int m, int n, int k) {
  ProblemOf<C> problem(m, n, k, 1, 1);
  Buffer<float> bias(n);
  bias.fill(5, 9);
  Tree::Arguments tree{
      {{{{}, {bias.device, 0.0f, {_0{}, _1{}, n}}, {}}, {problem.c.device, 0.0f, {n, _1{}, int64_t{m} * n}}, {}}, {}},
      {problem.d.device, {n, _1{}, int64_t{m} * n}}};
  Visited::Arguments arguments(cutlass::gemm::GemmUniversalMode::kGemm, {m, n, k}, 1, tree, problem.a.device,
                               problem.b.device, nullptr, nullptr, int64_t{m} * k, int64_t{n} * k, 0, 0, k, k, 0, 0);
  Visited gemm;
  require(Visited::can_implement(arguments), "can_implement");
  Buffer<uint8_t> workspace(Visited::get_workspace_size(arguments) + 1);
  require(gemm.initialize(arguments, workspace.device), "initialize");
  require(gemm.run(), "run");
  check("visitor tree", problem,
        [&](int row, int column) { return bias.host[column] + problem.c.host[size_t(row) * n + column]; });
}

void run_relu(int m, int n, int k) {
  ProblemOf<C> problem(m, n, k, 1, 1);
  Relu gemm;
  require(gemm({{m, n, k},
                {problem.a.device, k},
                {problem.b.device, k},
                {problem.c.device, n},
                {problem.d.device, n},
                {1.0f, 1.0f}}),
          "run");
  check("relu", problem, [&](int row, int column) { return problem.c.host[size_t(row) * n + column]; });
}

}  // namespace

int main() {
  run_visited(128, 64, 64);
  run_visited(201, 132, 104);
  run_relu(201, 132, 104);
}
