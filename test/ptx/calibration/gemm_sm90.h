// Hopper products by CUTLASS's collective builder, checked: the configurations are in gemm_sm90_*.cu.
#pragma once
#include "cute/tensor.hpp"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/collective/default_epilogue.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/kernel_hardware_info.h"
#include "cutlass/util/packed_stride.hpp"
#include "gemm_check.h"

namespace calibration {

using cute::_1;
using cute::_128;
using cute::_2;
using cute::_256;
using cute::_32;
using cute::_64;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;
using Pingpong = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
using Cooperative = cutlass::gemm::KernelTmaWarpSpecializedCooperative;

template <class Element_, class LayoutA_, class LayoutB_, class ElementC_, class Tile_, class Cluster_, class Schedule_>
struct Configuration {
  using Element = Element_;
  using LayoutA = LayoutA_;
  using LayoutB = LayoutB_;
  using ElementC = ElementC_;
  using LayoutC = RowMajor;
  using Tile = Tile_;
  using Cluster = Cluster_;
  using Schedule = Schedule_;
  static constexpr bool kPingpong = std::is_same_v<Schedule, Pingpong>;
  using EpilogueSchedule = std::conditional_t<kPingpong, cutlass::epilogue::TmaWarpSpecialized,
                                              cutlass::epilogue::TmaWarpSpecializedCooperative>;
  static constexpr int kAlignment = 16 / sizeof(Element), kAlignmentC = 16 / sizeof(ElementC);

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, ElementC, LayoutC, kAlignmentC, ElementC, LayoutC,
      kAlignmentC, EpilogueSchedule>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, LayoutA, kAlignment, Element, LayoutB, kAlignment,
      float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      Schedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
};

template <class C>
void run(const char* name, int m, int n, int k, float alpha, float beta) {
  using Gemm = typename C::Gemm;
  Problem<typename C::Element, typename C::LayoutA, typename C::Element, typename C::LayoutB, typename C::ElementC,
          typename C::ElementC, typename C::LayoutC>
      problem(m, n, k, alpha, beta);
  auto stride_a = cutlass::make_cute_packed_stride(typename Gemm::GemmKernel::StrideA{}, {m, k, 1});
  auto stride_b = cutlass::make_cute_packed_stride(typename Gemm::GemmKernel::StrideB{}, {n, k, 1});
  auto stride_c = cutlass::make_cute_packed_stride(typename Gemm::GemmKernel::StrideC{}, {m, n, 1});
  typename Gemm::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGemm,
                                     {m, n, k, 1},
                                     {problem.a.device, stride_a, problem.b.device, stride_b},
                                     {{alpha, beta}, problem.c.device, stride_c, problem.d.device, stride_c}};
  arguments.hw_info.sm_count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count(0);
  Gemm gemm;
  require(gemm.can_implement(arguments), "can_implement");
  Buffer<uint8_t> workspace(Gemm::get_workspace_size(arguments) + 1);
  require(gemm.initialize(arguments, workspace.device), "initialize");
  require(gemm.run(), "run");
  problem.check(name);
}

}  // namespace calibration
