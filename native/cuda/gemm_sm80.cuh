// bf16 products by mma.sync (CUTLASS 2.x, sm_80): the kernel of one order and tile, and its launch. Each gemm_sm80_*.cu
// instantiates one.
//
// All tiles give the same bits: a warp holds its sums over all of a block's k (no split), one m16n8k16 after the other
// in ascending k, and CUTLASS takes K % kTileK first, then whole steps of kTileK, which is the same for every tile.
#pragma once
#include <cutlass/gemm/device/gemm_universal.h>
#include <cutlass/gemm/kernel/default_gemm_universal_with_visitor.h>

// After the two above, on which it depends without including them.
#include <cutlass/epilogue/threadblock/fusion/visitors.hpp>

#include "failure.h"
#include "gemm_epilogue.cuh"
#include "gemm_sm80.h"

namespace foretoken::cuda {

// A visitor of CUTLASS's epilogue that finishes four columns at a time, whatever the dtypes of d, c and bias: one
// kernel serves them all.
template <class ThreadMap>
struct FinishVisitor {
  using Arguments = Epilogue;
  using Params = Epilogue;
  struct SharedStorage {};
  static constexpr int kColumns = 4;
  static_assert(ThreadMap::kElementsPerAccess == kColumns);

  template <class ProblemShape>
  static Params to_underlying_arguments(const ProblemShape&, const Arguments& arguments, void*) {
    return arguments;
  }

  FinishVisitor() = default;
  CUTLASS_HOST_DEVICE FinishVisitor(const Params& params, const SharedStorage&) : params_(&params) {}

  // coordinates: (columns of an access, its accesses in a row, rows of a step, steps) → (row, column)
  template <class Coordinates>
  struct Callbacks : cutlass::epilogue::threadblock::EmptyCallbacks {
    static constexpr int kAcross = decltype(cute::size<1>(Coordinates()))::value;
    static constexpr int kDown = decltype(cute::size<2>(Coordinates()))::value;

    const Epilogue* epilogue;
    Coordinates coordinates;
    int rows, columns;
    float bias[kAcross][kColumns], c[kDown * kAcross][kColumns];

    CUTLASS_DEVICE Callbacks(const Epilogue* epilogue_, Coordinates coordinates_, int rows_, int columns_)
        : epilogue(epilogue_), coordinates(coordinates_), rows(rows_), columns(columns_) {}

    CUTLASS_DEVICE bool whole(int column) const { return epilogue->vectors && column + kColumns <= columns; }

    CUTLASS_DEVICE void begin_epilogue() {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kAcross; i++) {
        int column = cute::get<1>(coordinates(0, i, 0, 0));
        for (int j = 0; j < kColumns; j++)
          bias[i][j] = column + j < columns ? element_or(epilogue->bias, column + j, 0) : 0;
      }
    }

    // All of a step's c is asked for before any of it is used.
    template <class T>
    CUTLASS_DEVICE void load_c(int step, const T* from) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kDown * kAcross; i++) {
        auto [row, column, batch] = coordinates(0, i % kAcross, i / kAcross, step);
        const T* at = from + row * epilogue->c.stride + column;
        cutlass::Array<T, kColumns> four;
        if (row < rows && whole(column)) {
          using Word = std::conditional_t<sizeof(T) == 4, uint4, uint2>;
          Word word = __ldca(reinterpret_cast<const Word*>(at));
          four = reinterpret_cast<const cutlass::Array<T, kColumns>&>(word);
        } else {
          for (int j = 0; j < kColumns; j++) four[j] = row < rows && column + j < columns ? at[j] : T(0);
        }
        for (int j = 0; j < kColumns; j++) c[i][j] = static_cast<float>(four[j]);
      }
    }

    CUTLASS_DEVICE void begin_step(int step) {
      if (!epilogue->c.data) {
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < kDown * kAcross; i++)
          for (int j = 0; j < kColumns; j++) c[i][j] = 0;
      } else if (epilogue->c.dtype == DType::bf16) {
        load_c(step, static_cast<const cutlass::bfloat16_t*>(epilogue->c.data));
      } else {
        load_c(step, static_cast<const float*>(epilogue->c.data));
      }
    }

    template <class T>
    CUTLASS_DEVICE void store(T* to, int column, const float (&values)[kColumns]) {
      cutlass::AlignedArray<T, kColumns> four;
      for (int j = 0; j < kColumns; j++) four[j] = T(values[j]);
      if (whole(column)) {
        *reinterpret_cast<cutlass::AlignedArray<T, kColumns>*>(to) = four;
      } else {
        for (int j = 0; j < kColumns; j++)
          if (column + j < columns) to[j] = four[j];
      }
    }

    template <class Sums>
    CUTLASS_DEVICE Sums visit(int step, int down, int across, int index, const Sums& sums) {
      auto [row, column, batch] = coordinates(0, across, down, step);
      if (row >= rows || column >= columns) return sums;
      float scale = scale_of(*epilogue, row), values[kColumns];
      for (int j = 0; j < kColumns; j++) {
        int at = column + j < columns ? column + j : column;
        values[j] = combine(scale, add_tail(epilogue->tail, row, at, sums[j]), bias[across][j], c[index][j]);
      }
      int64_t offset = row * epilogue->d.stride + column;
      if (epilogue->d.dtype == DType::bf16)
        store(static_cast<cutlass::bfloat16_t*>(epilogue->d.data) + offset, column, values);
      else
        store(static_cast<float*>(epilogue->d.data) + offset, column, values);
      return sums;
    }
  };

  template <class ProblemShape>
  CUTLASS_DEVICE auto get_callbacks(cutlass::gemm::GemmCoord tile, int thread, ProblemShape shape) {
    auto coordinates = cute::group_modes<3, 6>(ThreadMap::partition(cute::make_identity_tensor(shape), thread, tile));
    return Callbacks<decltype(coordinates)>(params_, coordinates, cute::get<0>(shape), cute::get<1>(shape));
  }

 private:
  const Params* params_ = nullptr;
};

template <Order order>
struct Layouts {
  using A = cutlass::layout::RowMajor;
  using B = cutlass::layout::RowMajor;
};
template <>
struct Layouts<Order::nt> {
  using A = cutlass::layout::RowMajor;
  using B = cutlass::layout::ColumnMajor;
};
template <>
struct Layouts<Order::tn> {
  using A = cutlass::layout::ColumnMajor;
  using B = cutlass::layout::RowMajor;
};

// A block's tile, and the part of it that a warp holds.
template <int kBlockM_, int kBlockN_, int kWarpM_, int kWarpN_, int kStages_>
struct Tile {
  static constexpr int kStages = kStages_;
  using Block = cutlass::gemm::GemmShape<kBlockM_, kBlockN_, kTileK>;
  using Warp = cutlass::gemm::GemmShape<kWarpM_, kWarpN_, kTileK>;
};

template <Order order, class Tile>
struct TensorProduct {
  using Element = cutlass::bfloat16_t;
  static constexpr int kAlignment = 16 / sizeof(Element);
  using ThreadMap =
      cutlass::epilogue::threadblock::OutputTileThreadLayout<typename Tile::Block, typename Tile::Warp, float, 4>;
  using Base = typename cutlass::gemm::kernel::DefaultGemmUniversal<
      Element, typename Layouts<order>::A, cutlass::ComplexTransform::kNone, kAlignment,  //
      Element, typename Layouts<order>::B, cutlass::ComplexTransform::kNone, kAlignment,  //
      float, cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
      typename Tile::Block, typename Tile::Warp, cutlass::gemm::GemmShape<16, 8, 16>,
      cutlass::epilogue::thread::LinearCombination<float, 4, float, float>,
      cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<8>, Tile::kStages,
      cutlass::arch::OpMultiplyAdd>::GemmKernel;
  // The loop over the epilogue's steps is not unrolled: that takes eight times the code.
  using Finish = cutlass::epilogue::threadblock::EpilogueWithVisitorCallbacks<typename Base::Epilogue,
                                                                              FinishVisitor<ThreadMap>, 1, false>;
  using Kernel =
      cutlass::gemm::kernel::GemmWithEpilogueVisitor<typename Base::Mma, Finish, typename Base::ThreadblockSwizzle>;

  static void launch(const Call& call, const Product& product) {
    int64_t k = product.k / kTensorStep * kTensorStep;
    cutlass::gemm::GemmCoord size(static_cast<int>(product.m), static_cast<int>(product.n), static_cast<int>(k));
    typename Kernel::Arguments arguments(cutlass::gemm::GemmUniversalMode::kGemm, size, 1, epilogue_of(product, k),
                                         product.a.data, product.b.data, nullptr, nullptr, 0, 0, 0, 0, product.a.stride,
                                         product.b.stride, 0, 0);
    typename Kernel::Params params(arguments, 0, 0);
    constexpr int kShared = sizeof(typename Kernel::SharedStorage);
    auto* kernel = cutlass::Kernel2<Kernel>;
    if (kShared > kDefaultSharedBytes &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared) != cudaSuccess)
      return report_failure("the device has too little shared memory for a product");
    kernel<<<params.get_grid_dims(), Kernel::kThreadCount, kShared, stream_of(call)>>>(params);
  }
};

}  // namespace foretoken::cuda
