// bf16 products by wgmma and TMA (CUTLASS 3.x, sm_90a): the kernel of one order, tile and pair of dtypes, and its
// launch. Each gemm_sm90_*.cu instantiates one.
//
// All tiles give the same bits: a warp group holds its sums over all k, one k16 instruction after the other in
// ascending k, and TMA fills what lies beyond K with zeros.
#pragma once
#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include "device.cuh"
#include "failure.h"
#include "gemm_sm90.h"

namespace foretoken::cuda::sm90 {

using cute::_0, cute::_1, cute::_2;
namespace fusion = cutlass::epilogue::fusion;
constexpr auto kNearest = cutlass::FloatRoundStyle::round_to_nearest;

// Two warp groups on one tile, or each on a tile of its own, one storing while the other multiplies.
struct Cooperative {
  using Mainloop = cutlass::gemm::KernelTmaWarpSpecializedCooperative;
  using Epilogue = cutlass::epilogue::TmaWarpSpecializedCooperative;
};
struct PingPong {
  using Mainloop = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
  using Epilogue = cutlass::epilogue::TmaWarpSpecialized;
};

using Alpha = fusion::Sm90ScalarBroadcast<float>;
using Multiply = fusion::Sm90Compute<cutlass::multiplies, float, float, kNearest>;
template <class D>
using MultiplyAdd = fusion::Sm90Compute<cutlass::homogeneous_multiply_add, D, float, kNearest>;

// scale·sum + bias, of which an order has what its callers give: alpha·sum + bias, alpha·row_scale·sum, alpha·sum.
template <Order order, class Tile>
struct Scaling;

template <class Tile>
struct Scaling<Order::nt, Tile> {
  using Bias = fusion::Sm90RowBroadcast<0, Tile, cutlass::bfloat16_t, float>;
  using Node = fusion::Sm90EVT<MultiplyAdd<float>, Alpha, fusion::Sm90AccFetch, Bias>;
  static typename Node::Arguments arguments(const Product& product) {
    return {{{1}, {product.alpha}}, {}, {static_cast<const cutlass::bfloat16_t*>(product.bias.data)}, {}};
  }
};
template <class Tile>
struct Scaling<Order::nn, Tile> {
  using RowScale = fusion::Sm90ColBroadcast<0, Tile, float>;
  using Scale = fusion::Sm90EVT<Multiply, Alpha, RowScale>;
  using Node = fusion::Sm90EVT<Multiply, Scale, fusion::Sm90AccFetch>;
  static typename Node::Arguments arguments(const Product& product) {
    return {{{{1}, {product.alpha}}, {product.row_scale, 1}, {}}, {}, {}};
  }
};
template <class Tile>
struct Scaling<Order::tn, Tile> {
  using Node = fusion::Sm90EVT<Multiply, Alpha, fusion::Sm90AccFetch>;
  static typename Node::Arguments arguments(const Product& product) { return {{{1}, {product.alpha}}, {}, {}}; }
};

template <Order order, class Tile, class Cluster, class Schedule, class C, class D>
struct TensorProduct {
  using Element = cutlass::bfloat16_t;
  using RowMajor = cutlass::layout::RowMajor;
  using ColumnMajor = cutlass::layout::ColumnMajor;
  using LayoutA = std::conditional_t<order == Order::tn, ColumnMajor, RowMajor>;
  using LayoutB = std::conditional_t<order == Order::nt, ColumnMajor, RowMajor>;

  using Beta = fusion::Sm90ScalarBroadcast<float, cute::Stride<_0, _0, int64_t>>;
  using Finish = fusion::Sm90EVT<MultiplyAdd<D>, Beta, fusion::Sm90SrcFetch<C>, typename Scaling<order, Tile>::Node>;
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, C, RowMajor, 16 / sizeof(C), D, RowMajor,
      16 / sizeof(D), typename Schedule::Epilogue, Finish>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, LayoutA, 8, Element, LayoutB, 8, float, Tile,
      Cluster, cutlass::gemm::collective::StageCountAutoCarveout<sizeof(typename Epilogue::SharedStorage)>,
      typename Schedule::Mainloop>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue>;
  using Adapter = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

  // A stride with one side of 1, the other as given.
  template <class Stride>
  static Stride stride_of(int64_t elements) {
    Stride stride = {};
    if constexpr (cute::is_static_v<std::remove_cvref_t<decltype(cute::get<0>(stride))>>)
      cute::get<1>(stride) = elements;
    else
      cute::get<0>(stride) = elements;
    return stride;
  }

  static void launch(const Call& call, const Product& product) {
    // A tensor map is made of c even where there is none to read.
    Operand c = product.c.data ? product.c : Operand{product.d.data, product.d.dtype, round_up(product.n, 8)};
    cutlass::KernelHardwareInfo hardware;
    hardware.sm_count = call.machine->multiprocessors;
    typename Kernel::Arguments arguments = {
        cutlass::gemm::GemmUniversalMode::kGemm,
        {static_cast<int>(product.m), static_cast<int>(product.n), static_cast<int>(product.k), 1},
        {static_cast<const Element*>(product.a.data), stride_of<typename Kernel::StrideA>(product.a.stride),
         static_cast<const Element*>(product.b.data), stride_of<typename Kernel::StrideB>(product.b.stride)},
        {{{{product.c.data ? 1.0f : 0.0f}, {nullptr}, {}}, {}, Scaling<order, Tile>::arguments(product), {}},
         static_cast<const C*>(c.data),
         stride_of<typename Kernel::StrideC>(c.stride),
         static_cast<D*>(product.d.data),
         stride_of<typename Kernel::StrideD>(product.d.stride)},
        hardware};
    Adapter adapter;
    if (adapter.initialize(arguments) != cutlass::Status::kSuccess)
      return report_failure("the device has too little shared memory for a product");
    if (adapter.run(stream_of(call)) != cutlass::Status::kSuccess) report_failure("a product could not be launched");
  }
};

}  // namespace foretoken::cuda::sm90
