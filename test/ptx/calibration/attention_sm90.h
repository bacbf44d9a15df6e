// CUTLASS's Hopper attention (examples/88), forward and backward, checked.
#pragma once
#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/kernel_hardware_info.h"
// Found beside CUTLASS's include folder.
#include "../examples/88_hopper_fmha/collective/fmha_fusion.hpp"
#include "../examples/88_hopper_fmha/device/device_universal.hpp"
#include "../examples/88_hopper_fmha/device/fmha_device_bwd.hpp"
#include "../examples/88_hopper_fmha/kernel/fmha_kernel_builder.hpp"
#include "attention_reference.h"

namespace calibration {

using Cooperative = cutlass::gemm::KernelTmaWarpSpecializedCooperative;
using Pingpong = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
using Everything = cutlass::fmha::collective::ResidualFusion;  // keys need not fill tiles
using Causal = cutlass::fmha::collective::CausalFusion;

inline void require(cutlass::Status status, const char* what) {
  require(status == cutlass::Status::kSuccess, what, cutlass::cutlassGetStatusString(status));
}

// Q, K, V and what attention makes of them: [heads][queries or keys][width], dense.
struct Attention {
  explicit Attention(const AttentionShape& shape)
      : shape(shape),
        q(size_t(shape.heads) * shape.queries * shape.width),
        k(size_t(shape.heads) * shape.keys * shape.width),
        v(k.host.size()),
        o(q.host.size()),
        lse(size_t(shape.heads) * shape.queries) {
    fill_fractions(q, 1);
    fill_fractions(k, 2);
    fill_fractions(v, 3);
  }
  Heads queries_by_width(const Buffer<f16>& buffer) const {
    return widen(buffer.host, shape.heads, shape.queries, shape.width);
  }
  Heads keys_by_width(const Buffer<f16>& buffer) const {
    return widen(buffer.host, shape.heads, shape.keys, shape.width);
  }
  auto problem() const { return cute::make_tuple(1, shape.heads, shape.queries, shape.keys, shape.width); }

  AttentionShape shape;
  Buffer<f16> q, k, v, o;
  Buffer<float> lse;
};

inline cutlass::KernelHardwareInfo hardware() {
  cutlass::KernelHardwareInfo info;
  info.sm_count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count(0);
  return info;
}

template <class Operation>
void run_operation(const char* name, const typename Operation::Arguments& arguments) {
  Operation operation;
  Buffer<uint8_t> workspace(Operation::get_workspace_size(arguments) + 1);
  require(operation.can_implement(arguments), name);
  require(operation.initialize(arguments, workspace.device), name);
  require(operation.run(), name);
  finish(name);
}

template <class Tile, class Schedule, class Fusion>
void run_forward(const char* name, Attention& attention) {
  using Rows = cute::tuple<int, cute::_1, cute::tuple<int, int>>;  // row, width, (batch, head)
  using Kernel =
      typename cutlass::fmha::kernel::FmhaBuilder<f16, float, float, Tile, Rows, Rows, Rows, Fusion, Schedule>::Kernel;
  using Operation = cutlass::device::Universal<Kernel>;
  const auto& [heads, queries, keys, width, causal] = attention.shape;
  const Rows of_queries{width, {}, {heads * queries * width, queries * width}};
  const Rows of_keys{width, {}, {heads * keys * width, keys * width}};
  run_operation<Operation>(name,
                           {attention.problem(),
                            {attention.q.device, of_queries, attention.k.device, of_keys, attention.v.device, of_keys},
                            {attention.o.device, of_queries, attention.lse.device, {{}, {heads * queries, queries}}},
                            hardware()});
}

template <class Tile, class Schedule, class Fusion>
void check_forward(const char* name, const AttentionShape& shape) {
  Attention attention(shape);
  run_forward<Tile, Schedule, Fusion>(name, attention);
  attention.o.to_host();
  attention.lse.to_host();
  const AttentionForward expected(shape, attention.queries_by_width(attention.q), attention.keys_by_width(attention.k),
                                  attention.keys_by_width(attention.v));
  // P and O are rounded to f16, and exponentials are approximate.
  require_near(name, "O", attention.o.host, expected.o, expected.o_magnitude, 3);
  Heads one(shape.heads, shape.queries, 1);
  for (double& value : one.values) value = 1;
  require_near(name, "log-sum-exp", attention.lse.host, expected.lse, one, 0.25);
}

template <class ForwardTile, class Tile, class Fusion>
void check_backward(const char* name, const AttentionShape& shape) {
  using Operation = cutlass::fmha::device::FmhaBwd<f16, float, Tile, Fusion>;
  Attention attention(shape);
  run_forward<ForwardTile, Cooperative, Fusion>(name, attention);
  Buffer<f16> d_o(attention.q.host.size()), dq(attention.q.host.size()), dk(attention.k.host.size()),
      dv(dk.host.size());
  fill_fractions(d_o, 4);
  const auto& [heads, queries, keys, width, causal] = attention.shape;
  const auto of_queries = cute::make_stride(heads * queries * width, queries * width, width, cute::_1{});
  const auto of_keys = cute::make_stride(heads * keys * width, keys * width, width, cute::_1{});
  run_operation<Operation>(name, {attention.problem(),
                                  attention.q.device,
                                  of_queries,
                                  attention.k.device,
                                  of_keys,
                                  attention.v.device,
                                  of_keys,
                                  attention.o.device,
                                  of_queries,
                                  attention.lse.device,
                                  cute::make_stride(heads * queries, queries, cute::_1{}),
                                  d_o.device,
                                  of_queries,
                                  dq.device,
                                  of_queries,
                                  dk.device,
                                  of_keys,
                                  dv.device,
                                  of_keys,
                                  hardware()});
  for (Buffer<f16>* buffer : {&dq, &dk, &dv}) buffer->to_host();
  const Heads q = attention.queries_by_width(attention.q), k = attention.keys_by_width(attention.k);
  const Heads v = attention.keys_by_width(attention.v);
  const AttentionForward forward(shape, q, k, v);
  const AttentionBackward expected(shape, forward, q, k, v, attention.queries_by_width(d_o));
  // P, dS, O and the result are rounded to f16.
  require_near(name, "dQ", dq.host, expected.dq, expected.dq_magnitude, 4);
  require_near(name, "dK", dk.host, expected.dk, expected.dk_magnitude, 4);
  require_near(name, "dV", dv.host, expected.dv, expected.dv_magnitude, 4);
}

}  // namespace calibration
