#include "special.h"

#include "code.h"
#include "lanewise.h"

namespace foretoken::machine {

namespace {

using S = ptx::SpecialRegister;

// One register, the same for all lanes of the warp, or by lane. `number`: which %envreg.
uint64_t special_value(const Context& c, S which, uint32_t number, uint32_t lane) {
  const LaunchShape& shape = c.launch->shape;
  const Dimensions &threads = shape.block, &cluster = shape.cluster, &block = c.block->index;
  const uint32_t thread = c.warp->index * kLanes + lane;
  const uint32_t bit = 1u << lane;
  switch (which) {
    case S::tid_x: return thread % threads.x;
    case S::tid_y: return thread / threads.x % threads.y;
    case S::tid_z: return thread / (threads.x * threads.y);
    case S::ntid_x: return threads.x;
    case S::ntid_y: return threads.y;
    case S::ntid_z: return threads.z;
    case S::ctaid_x: return block.x;
    case S::ctaid_y: return block.y;
    case S::ctaid_z: return block.z;
    case S::nctaid_x: return shape.grid.x;
    case S::nctaid_y: return shape.grid.y;
    case S::nctaid_z: return shape.grid.z;
    case S::laneid: return lane;
    case S::warpid: return c.warp->index;
    case S::nwarpid: return 64;
    case S::smid: return c.block->sm;
    case S::nsmid: return shape.sm_count;
    case S::gridid: return 1;
    case S::is_explicit_cluster: return shape.explicit_cluster;
    case S::clusterid_x: return c.cluster->index.x;
    case S::clusterid_y: return c.cluster->index.y;
    case S::clusterid_z: return c.cluster->index.z;
    case S::nclusterid_x: return shape.grid.x / cluster.x;
    case S::nclusterid_y: return shape.grid.y / cluster.y;
    case S::nclusterid_z: return shape.grid.z / cluster.z;
    case S::cluster_ctaid_x: return block.x % cluster.x;
    case S::cluster_ctaid_y: return block.y % cluster.y;
    case S::cluster_ctaid_z: return block.z % cluster.z;
    case S::cluster_nctaid_x: return cluster.x;
    case S::cluster_nctaid_y: return cluster.y;
    case S::cluster_nctaid_z: return cluster.z;
    case S::cluster_ctarank: return c.block->rank;
    case S::cluster_nctarank: return cluster.count();
    case S::lanemask_eq: return bit;
    case S::lanemask_le: return bit | (bit - 1);
    case S::lanemask_lt: return bit - 1;
    case S::lanemask_ge: return ~(bit - 1);
    case S::lanemask_gt: return ~(bit | (bit - 1));
    // Time is the number of instructions executed: it advances, and is the same in every run with one seed.
    case S::clock: return static_cast<uint32_t>(c.launch->instructions);
    case S::clock_hi: return c.launch->instructions >> 32;
    case S::clock64: return c.launch->instructions;
    case S::globaltimer: return c.launch->instructions;
    case S::globaltimer_lo: return static_cast<uint32_t>(c.launch->instructions);
    case S::globaltimer_hi: return c.launch->instructions >> 32;
    case S::total_smem_size:
    case S::aggr_smem_size: return kSharedBase + c.block->shared_bytes;
    case S::dynamic_smem_size: return shape.dynamic_shared_bytes;
    case S::reserved_smem_offset_begin: return 0;
    case S::reserved_smem_offset_end:
    case S::reserved_smem_offset_cap: return kSharedBase;
    case S::envreg:
      if (number == 1) return grid_workspace(*c.launch) >> 32;
      if (number == 2) return static_cast<uint32_t>(grid_workspace(*c.launch));
      return 0;
  }
  return 0;
}

// Registers that count up while the kernel runs: looking at one is waiting for it.
bool is_time(S which) { return which >= S::clock && which <= S::globaltimer_hi; }

template <class T>
Outcome read_special(Context& c, const Instruction& i) {
  const S which = static_cast<S>(i.parameter[0]);
  T values[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    values[lane] = static_cast<T>(special_value(c, which, i.parameter[1], lane));
  c.write<T>(i[0], values);
  if (!is_time(which)) return Outcome::next;
  ++c.launch->instructions;
  return Outcome::yield;
}

}  // namespace

uint64_t grid_workspace(const Launch& launch) {
  constexpr uint64_t kOffset = 1024;
  return launch.shape.cooperative ? launch.global->base() + kOffset : 0;
}

void select_special(Form& form, ptx::Type type) {
  const S which = form.operand(1).special;
  form.instruction.parameter[0] = static_cast<uint32_t>(which);
  form.instruction.parameter[1] = static_cast<uint32_t>(form.operand(1).offset);
  const bool is_wide = which == S::clock64 || which == S::globaltimer || which == S::gridid;
  const int bits = ptx::type_bits(type);
  if (bits == 64 && !is_wide) form.unknown();
  expect_row(form, 0, bits == 64 ? 64 : 32, true);
  form.use(bits == 64 ? read_special<uint64_t> : read_special<uint32_t>);
}

}  // namespace foretoken::machine
