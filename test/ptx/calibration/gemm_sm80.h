// Ampere products by CUTLASS 2.x, checked: each gemm_sm80_*.cu runs a few configurations.
#pragma once
#include <algorithm>
#include <cmath>

#include "cutlass/gemm/device/gemm_universal.h"
#include "gemm_check.h"

namespace calibration {

using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;
using bf16 = cutlass::bfloat16_t;
using f16 = cutlass::half_t;
template <int kM, int kN, int kK>
using Shape = cutlass::gemm::GemmShape<kM, kN, kK>;

// A configuration derives from one of these and names what it does differently.
struct HalfProducts {
  using Element = bf16;
  using LayoutA = RowMajor;
  using LayoutB = ColumnMajor;
  using ElementD = float;
  using OperatorClass = cutlass::arch::OpClassTensorOp;
  using Operator = cutlass::arch::OpMultiplyAdd;
  using Tile = Shape<64, 64, 32>;
  using Warp = Shape<32, 32, 32>;
  using Instruction = Shape<16, 8, 16>;
  static constexpr int kStages = 3, kAlignment = 8, kAlignmentD = 1;
};
struct Tf32Products : HalfProducts {
  using Element = cutlass::tfloat32_t;
  using Tile = Shape<64, 64, 16>;
  using Warp = Shape<32, 32, 16>;
  using Instruction = Shape<16, 8, 8>;
  static constexpr int kAlignment = 4;
};
struct SimtProducts : HalfProducts {
  using Element = float;
  using OperatorClass = cutlass::arch::OpClassSimt;
  using Tile = Shape<64, 64, 8>;
  using Warp = Shape<32, 32, 8>;
  using Instruction = Shape<1, 1, 1>;
  static constexpr int kStages = 2, kAlignment = 1;
};

template <class C>
using LinearCombination =
    cutlass::epilogue::thread::LinearCombination<typename C::ElementD, C::kAlignmentD, float, float>;

template <class C>
using Gemm = cutlass::gemm::device::GemmUniversal<
    typename C::Element, typename C::LayoutA, typename C::Element, typename C::LayoutB, typename C::ElementD, RowMajor,
    float, typename C::OperatorClass, cutlass::arch::Sm80, typename C::Tile, typename C::Warp, typename C::Instruction,
    LinearCombination<C>, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, C::kStages, C::kAlignment,
    C::kAlignment, typename C::Operator>;

template <class C>
using ProblemOf = Problem<typename C::Element, typename C::LayoutA, typename C::Element, typename C::LayoutB,
                          typename C::ElementD, typename C::ElementD, RowMajor>;

// `slices` > 1: split along k; the blocks of one tile add to D one after the other.
template <class C>
void launch(ProblemOf<C>& problem, int slices) {
  using Device = Gemm<C>;
  const auto [m, n, k] = std::array{problem.m, problem.n, problem.k};
  typename Device::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGemm,
                                       {m, n, k},
                                       slices,
                                       {problem.alpha, problem.beta},
                                       problem.a.device,
                                       problem.b.device,
                                       problem.c.device,
                                       problem.d.device,
                                       int64_t{m} * k,
                                       int64_t{n} * k,
                                       int64_t{m} * n,
                                       int64_t{m} * n,
                                       leading<typename C::LayoutA>(m, k),
                                       leading<typename C::LayoutB>(k, n),
                                       n,
                                       n};
  Device gemm;
  require(Device::can_implement(arguments), "can_implement");
  Buffer<uint8_t> workspace(Device::get_workspace_size(arguments) + 1);
  require(gemm.initialize(arguments, workspace.device), "initialize");
  require(gemm.run(), "run");
  finish("synchronize");
}

template <class C>
void run(const char* name, int m, int n, int k, float alpha = 1, float beta = 0, int slices = 1) {
  ProblemOf<C> problem(m, n, k, alpha, beta);
  launch<C>(problem, slices);
  problem.check(name);
}

// Values of any size: the hardware leaves order and rounding of the k additions in fp32 open, but each errs by at most
// 2⁻²³·Σ|ab|, even where it truncates; then comes the rounding to D, half a unit of its last place.
template <class C>
void run_random(const char* name, int m, int n, int k, double rounding) {
  using Element = typename C::Element;
  ProblemOf<C> problem(m, n, k, 1, 0);
  uint32_t state = 7;
  for (auto* operand : {&problem.a, &problem.b}) {
    for (Element& value : operand->host) {
      state = state * 1664525u + 1013904223u;
      value = Element(static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f);
    }
    operand->to_device();
  }
  launch<C>(problem, 1);
  problem.d.to_host();
  double worst = 0;  // error in units of the bound
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < n; ++column) {
      double sum = 0, size = 0;
      for (int i = 0; i < k; ++i) {
        const double a = float(problem.a.host[at<typename C::LayoutA>(row, i, m, k)]);
        const double b = float(problem.b.host[at<typename C::LayoutB>(i, column, k, n)]);
        sum += a * b;
        size += std::abs(a * b);
      }
      const double bound = k * 0x1p-23 * size + rounding * std::abs(sum);
      const double error = std::abs(float(problem.d.host[at<RowMajor>(row, column, m, n)]) - sum);
      worst = std::max(worst, error <= bound ? error / bound : INFINITY);
    }
  std::printf("%s %dx%dx%d random values: %.3f of the bound\n", name, m, n, k, worst);
  require(worst <= 1, name, "differs from the plain loop");
}

}  // namespace calibration
