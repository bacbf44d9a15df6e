// E by wgmma and TMA (CUTLASS 3.x, sm_90a): the product of rows and weight with an epilogue that makes exponentials and
// facts of the sums before they leave the registers. What exponentials_of_row (cross_entropy_logits.cuh) is to
// mma.sync.
#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include "cross_entropy.h"
#include "cross_entropy_facts.cuh"
#include "failure.h"
#include "ptx.cuh"

namespace foretoken::cuda::sm90 {

using cute::_1, cute::_2, cute::Int, cute::Shape;
using cutlass::bfloat16_t;
namespace fusion = cutlass::epilogue::fusion;

// The lanes of a quad hold a row of wgmma's sums together.
constexpr int kQuad = 4;

// One row of this thread, as far as it has been visited.
struct RowProgress {
  int64_t index;  // in the chunk
  bool inside;
  int target;    // its column, counted from this thread's first
  float offset;  // +∞ in ignored rows, whose exponentials are 0
  float sum;
  Leader leader;
};

// A node of the epilogue's tree: sums in, E out, facts to memory once per 128 columns, as mma.sync's blocks have them.
struct ExponentialsNode {
  struct SharedStorage {};
  using Arguments = Logits;
  using Params = Logits;

  template <class ProblemShape>
  static Params to_underlying_arguments(const ProblemShape&, const Arguments& arguments, void*) {
    return arguments;
  }
  template <class ProblemShape>
  static bool can_implement(const ProblemShape&, const Arguments&) {
    return true;
  }
  template <class ProblemShape>
  static size_t get_workspace_size(const ProblemShape&, const Arguments&) {
    return 0;
  }
  template <class ProblemShape>
  static cutlass::Status initialize_workspace(const ProblemShape&, const Arguments&, void*, cudaStream_t,
                                              cutlass::CudaHostAdapter* = nullptr) {
    return cutlass::Status::kSuccess;
  }

  CUTLASS_HOST_DEVICE ExponentialsNode() {}
  CUTLASS_HOST_DEVICE ExponentialsNode(const Params& params, const SharedStorage&) : logits(&params) {}
  const Params* logits = nullptr;

  CUTLASS_DEVICE bool is_producer_load_needed() const { return false; }
  CUTLASS_DEVICE bool is_C_load_needed() const { return false; }
  template <class... Args>
  CUTLASS_DEVICE auto get_producer_load_callbacks(const fusion::ProducerLoadArgs<Args...>&) {
    return fusion::EmptyProducerLoadCallbacks{};
  }

  // Coordinates: where this thread's elements lie, counted from its first. columns_left: of the matrix, from there.
  template <class Coordinates, int kStepColumns>
  struct Callbacks : fusion::EmptyConsumerStoreCallbacks {
    static constexpr int kRows = 2, kRowDistance = 8;  // of a thread: what m64nNk16 gives it

    const Logits* logits;
    Coordinates coordinates;
    int64_t first_row;
    int first_column, columns_left;
    RowProgress rows[kRows];

    CUTLASS_DEVICE Callbacks(const Logits* logits_, Coordinates coordinates_, int64_t first_row_, int first_column_,
                             int columns_left_)
        : logits(logits_),
          coordinates(coordinates_),
          first_row(first_row_),
          first_column(first_column_),
          columns_left(columns_left_) {}

    CUTLASS_DEVICE void begin() {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kRows; i++) {
        RowProgress& row = rows[i];
        row.index = first_row + i * kRowDistance;
        row.inside = row.index < logits->rows;
        int32_t y = row.inside ? logits->row.target[row.index] : -1;
        row.target = y - first_column;
        row.offset = y < 0 ? INFINITY : logits->row.offset[row.index];
        row.sum = 0;
        row.leader = no_leader();
      }
    }

    template <class Sum, class Input, int kCount>
    CUTLASS_DEVICE cutlass::Array<bfloat16_t, kCount> visit(const cutlass::Array<Sum, kCount>&, int step_part,
                                                            int step_m, int step_n,
                                                            const cutlass::Array<Input, kCount>& sums) {
      cutlass::Array<float, kCount> e;
      auto step = coordinates(cute::_, cute::_, cute::_, step_m, step_n);
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kCount; i++) {
        auto at = step(step_part * kCount + i);
        int column = cute::get<1>(at);
        e[i] = exponential(rows[cute::get<0>(at) / kRowDistance], column, sums[i]);
      }
      return cutlass::NumericArrayConverter<bfloat16_t, float, kCount>{}(e);
    }

    // The target's column and those past the last are −∞ to all that follows.
    CUTLASS_DEVICE float exponential(RowProgress& row, int column, float sum) {
      float z = logits->logit_scale * sum;
      if (column == row.target && row.inside) logits->row.target_logit[row.index] = z;
      if (column == row.target || column >= columns_left) z = -INFINITY;
      if (z > row.leader.value) row.leader = {z, first_column + column};
      float e = ptx::exp2_approximate((z - row.offset) * 1.44269504f);
      row.sum += e;
      return e;
    }

    // After every kLogitBlock columns.
    CUTLASS_DEVICE void end_loop(int, int step_n) {
      int columns = (step_n + 1) * kStepColumns;
      if (columns % kLogitBlock != 0) return;
      int64_t block = (first_column - first_column % kLogitBlock + columns) / kLogitBlock - 1;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kRows; i++) write_facts(rows[i], block);
    }

    CUTLASS_DEVICE void write_facts(RowProgress& row, int64_t block) {
      CUTLASS_PRAGMA_UNROLL
      for (int lane = 1; lane < kQuad; lane *= 2) {
        row.sum += __shfl_xor_sync(~0u, row.sum, lane);
        row.leader = larger_of(
            row.leader, {__shfl_xor_sync(~0u, row.leader.value, lane), __shfl_xor_sync(~0u, row.leader.index, lane)});
      }
      if (threadIdx.x % kQuad == 0 && row.inside && block * kLogitBlock < logits->classes) {
        float* to = logits->partials + block * kExponentialFacts * logits->partial_stride + row.index;
        to[kSum * logits->partial_stride] = row.sum;
        to[kLargest * logits->partial_stride] = row.leader.value;
        to[kIndex * logits->partial_stride] = __int_as_float(row.leader.index);
      }
      row.sum = 0;
      row.leader = no_leader();
    }
  };

  template <bool, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(const fusion::ConsumerStoreArgs<Args...>& args) {
    auto [rows, columns, depth, batch] = args.problem_shape_mnkl;
    constexpr int kStepColumns = decltype(cute::size<1>(args.epi_tile))::value;
    static_assert(kLogitBlock % kStepColumns == 0);
    int rows_left = cute::get<0>(args.residue_tCcD), columns_left = cute::get<1>(args.residue_tCcD);
    return Callbacks<decltype(args.tCcD), kStepColumns>(logits, args.tCcD, rows - rows_left, columns - columns_left,
                                                        columns_left);
  }
};

// Ping-pong: one warp group makes exponentials while the other multiplies.
struct ExponentialsProduct {
  using Tile = Shape<Int<64>, Int<256>, Int<64>>;
  using Cluster = Shape<_2, _1, _1>;
  using RowMajor = cutlass::layout::RowMajor;
  using Finish = fusion::Sm90EVT<ExponentialsNode, fusion::Sm90AccFetch>;
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, RowMajor, 8, bfloat16_t, RowMajor, 8,
      cutlass::epilogue::TmaWarpSpecialized, Finish>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, bfloat16_t, RowMajor, 8, bfloat16_t,
      cutlass::layout::ColumnMajor, 8, float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<sizeof(typename Epilogue::SharedStorage)>,
      cutlass::gemm::KernelTmaWarpSpecializedPingpong>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue>;
  using Adapter = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

  static void launch(const Call& call, const Logits& logits) {
    cutlass::KernelHardwareInfo hardware;
    hardware.sm_count = call.machine->multiprocessors;
    typename Kernel::Arguments arguments = {
        cutlass::gemm::GemmUniversalMode::kGemm,
        {static_cast<int>(logits.rows), static_cast<int>(logits.classes), static_cast<int>(logits.width), 1},
        {static_cast<const bfloat16_t*>(logits.hidden),
         {logits.width, _1(), 0},
         static_cast<const bfloat16_t*>(logits.weight),
         {logits.width, _1(), 0}},
        {{{}, logits}, nullptr, {}, static_cast<bfloat16_t*>(logits.stored), {logits.stride, _1(), 0}},
        hardware};
    Adapter adapter;
    if (adapter.initialize(arguments) != cutlass::Status::kSuccess)
      return report_failure("the device has too little shared memory for the logits of a loss");
    if (adapter.run(stream_of(call)) != cutlass::Status::kSuccess) report_failure("logits could not be launched");
  }
};

}  // namespace foretoken::cuda::sm90

namespace foretoken::cuda {

void launch_exponentials_sm90(const Call& call, const Logits& logits) {
  auto starts_on_16 = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  bool reachable = starts_on_16(logits.hidden) && starts_on_16(logits.weight) && logits.width % 8 == 0;
  if (logits.dtype == DType::bf16 && reachable && !logits.bias && logits.softcap == 0)
    return sm90::ExponentialsProduct::launch(call, logits);
  launch_logits(call, LogitUse::exponentials, logits);
}

}  // namespace foretoken::cuda
