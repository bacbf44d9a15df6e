// Blocks and clusters come and go.
#include "grid.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "barrier.h"
#include "fuse.h"
#include "scheduler.h"
#include "special.h"

namespace foretoken::machine {

namespace {

// What registers and memory hold before they are written: seldom a number that looks right.
constexpr int kGarbage = 0xcd;

uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

struct AlignedBytes {
  explicit AlignedBytes(uint64_t bytes)
      : data(static_cast<uint8_t*>(std::aligned_alloc(64, round_up(bytes + 64, 64)))) {
    if (!data) throw std::bad_alloc();
  }
  ~AlignedBytes() { std::free(data); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  uint8_t* data;
};

// The memory of one warp's state, laid out in one piece.
struct WarpLayout {
  explicit WarpLayout(const Code& code)
      : rows(uint64_t{code.rows} * kRowBytes),
        states(round_up(code.rows, 64)),
        undefined_lanes(round_up(code.rows * sizeof(Mask), 64)),
        predicates(round_up(code.predicates * sizeof(Predicate), 64)),
        local(round_up(uint64_t{code.program.local_bytes} * kLanes, 64)),
        call_area(round_up(uint64_t{code.program.call_area_bytes} * kLanes, 64)) {}
  uint64_t rows, states, undefined_lanes, predicates, local, call_area;
  uint64_t bytes() const { return 2 * rows + states + undefined_lanes + predicates + 2 * local + 2 * call_area; }
};

struct Storage : Extension {
  std::vector<std::unique_ptr<AlignedBytes>> warps;      // free ones
  std::vector<std::unique_ptr<Memory>> shared;           // free ones
  std::vector<std::unique_ptr<AlignedBytes>> constants;  // in use
  std::map<const Warp*, std::unique_ptr<AlignedBytes>> used;
};

Storage& storage(Launch& launch) { return static_cast<Storage&>(*launch.storage); }

std::unique_ptr<Warp> make_warp(Launch& launch, Block& block, uint32_t index) {
  auto warp = std::make_unique<Warp>();
  const WarpLayout layout(*launch.code);
  Storage& pool = storage(launch);
  std::unique_ptr<AlignedBytes> bytes;
  if (pool.warps.empty()) {
    bytes = std::make_unique<AlignedBytes>(layout.bytes());
  } else {
    bytes = std::move(pool.warps.back());
    pool.warps.pop_back();
  }
  uint8_t* at = bytes->data;
  const auto cut = [&](uint64_t size, int fill) {
    uint8_t* piece = at;
    std::memset(piece, fill, size);
    at += size;
    return piece;
  };
  warp->rows = cut(layout.rows, kGarbage);
  warp->shadow = at;  // never read before it is spelled out
  at += layout.rows;
  warp->row_undefined = reinterpret_cast<Mask*>(at);  // likewise
  at += layout.undefined_lanes;
  warp->row_state = cut(layout.states, static_cast<int>(RowState::undefined));
  warp->predicates = reinterpret_cast<Predicate*>(cut(layout.predicates, 0xff));
  warp->predicates[0] = {kAllLanes, 0};
  warp->local = cut(layout.local, kGarbage);
  warp->local_shadow = cut(layout.local, 0xff);
  warp->call_area = cut(layout.call_area, kGarbage);
  warp->call_area_shadow = cut(layout.call_area, 0xff);
  pool.used[warp.get()] = std::move(bytes);

  warp->block = &block;
  warp->index = index;
  const uint32_t threads = std::min<uint32_t>(kLanes, block.threads - index * kLanes);
  warp->exists = warp->live = threads == kLanes ? kAllLanes : (1u << threads) - 1;
  auto split = std::make_unique<Split>();
  split->warp = warp.get();
  split->lanes = warp->live;
  split->state = SplitState::asleep;
  Split& first = *split;
  warp->splits.push_back(std::move(split));
  launch.make_ready(first);
  return warp;
}

std::unique_ptr<Memory> make_shared(Launch& launch, uint32_t rank, uint32_t bytes) {
  Storage& pool = storage(launch);
  const uint64_t base = uint64_t{rank} << kSharedRankShift, size = kSharedBase + uint64_t{bytes};
  std::unique_ptr<Memory> memory;
  if (pool.shared.empty()) {
    memory = std::make_unique<Memory>(base, size);
  } else {
    memory = std::move(pool.shared.back());
    pool.shared.pop_back();
    memory->reuse(base, size);
  }
  memory->allocate(base + kSharedBase, bytes, "shared memory");
  std::memset(memory->cell(base + kSharedBase), kGarbage, bytes);
  return memory;
}

Dimensions position(uint64_t number, const Dimensions& size) {
  return {static_cast<uint32_t>(number % size.x), static_cast<uint32_t>(number / size.x % size.y),
          static_cast<uint32_t>(number / (uint64_t{size.x} * size.y))};
}

// The constants as a block of this rank sees them.
ConstantRows make_constants(Launch& launch, uint32_t rank) {
  const Code& code = *launch.code;
  const uint64_t rows = std::max<uint64_t>(1, code.constants.size()), bytes = rows * kRowBytes;
  auto memory = std::make_unique<AlignedBytes>(2 * bytes + rows);
  ConstantRows result{memory->data, memory->data + bytes, memory->data + 2 * bytes};
  std::memcpy(result.values, code.constants.data(), code.constants.size() * kRowBytes);
  std::memset(result.shadow, 0, bytes + rows);
  for (const Code::SharedConstant& constant : code.shared_constants)
    for (int lane = 0; lane < kLanes; ++lane) {
      uint8_t* at = result.values + constant.row * kRowBytes + static_cast<uint32_t>(lane) * constant.bits / 8;
      uint32_t address;
      std::memcpy(&address, at, 4);
      address += rank << kSharedRankShift;
      std::memcpy(at, &address, 4);
    }
  storage(launch).constants.push_back(std::move(memory));
  return result;
}

void sum_counters(Launch& launch) {
  const auto& instructions = launch.code->instructions;
  for (size_t pc = 0; pc < instructions.size(); ++pc) {
    const auto category = static_cast<size_t>(instructions[pc].category);
    launch.counters.instructions[category] += launch.executed[pc];
    launch.counters.lane_instructions[category] += launch.lanes_executed[pc];
  }
}

// Its barrier comes back to where it was with every grid.sync(), so that it serves one launch after the other.
void make_grid_workspace(Launch& launch) {
  const uint64_t address = grid_workspace(launch);
  if (!address || launch.global->is_allocated(address)) return;
  launch.global->allocate(address, kGridWorkspaceBytes, "the workspace of cooperative grids");
  std::memset(launch.global->cell(address), 0, kGridWorkspaceBytes);
  launch.global->mark_defined(address, kGridWorkspaceBytes);
}

}  // namespace

void start_cluster(Launch& launch, uint64_t number) {
  const LaunchShape& shape = launch.shape;
  auto cluster = std::make_unique<Cluster>();
  cluster->launch = &launch;
  const Dimensions clusters{shape.grid.x / shape.cluster.x, shape.grid.y / shape.cluster.y,
                            shape.grid.z / shape.cluster.z};
  cluster->index = position(number, clusters);
  const uint32_t size = static_cast<uint32_t>(shape.cluster.count());
  cluster->live_blocks = size;
  for (uint32_t rank = 0; rank < size; ++rank) {
    auto block = std::make_unique<Block>();
    block->cluster = cluster.get();
    block->rank = rank;
    const Dimensions inside = position(rank, shape.cluster);
    block->index = {cluster->index.x * shape.cluster.x + inside.x, cluster->index.y * shape.cluster.y + inside.y,
                    cluster->index.z * shape.cluster.z + inside.z};
    block->threads = block->live_threads = static_cast<uint32_t>(shape.block.count());
    block->sm = static_cast<uint32_t>((number * size + rank) % std::max<uint32_t>(1, shape.sm_count));
    block->shared_bytes = launch.code->program.static_shared_bytes;
    if (launch.code->program.uses_dynamic_shared || shape.dynamic_shared_bytes)
      block->shared_bytes = launch.code->program.dynamic_shared_offset + shape.dynamic_shared_bytes;
    block->shared = make_shared(launch, rank, block->shared_bytes);
    if (launch.observer) launch.observer->on_block_start(*block);
    const uint32_t warps = (block->threads + kLanes - 1) / kLanes;
    for (uint32_t w = 0; w < warps; ++w) block->warps.push_back(make_warp(launch, *block, w));
    launch.counters.warps += warps;
    ++launch.counters.blocks;
    cluster->blocks.push_back(std::move(block));
  }
  launch.clusters.push_back(std::move(cluster));
}

void end_cluster(Launch& launch, Cluster& cluster) {
  std::vector<uint64_t> mine;
  for (const auto& operation : launch.pending)
    if (operation->block && operation->block->cluster == &cluster) mine.push_back(operation->number);
  for (uint64_t number : mine) launch.force(number);
  Storage& pool = storage(launch);
  for (auto& block : cluster.blocks) {
    for (auto& warp : block->warps) {
      const auto used = pool.used.find(warp.get());
      pool.warps.push_back(std::move(used->second));
      pool.used.erase(used);
    }
    pool.shared.push_back(std::move(block->shared));
  }
  auto& clusters = launch.clusters;
  clusters.erase(std::find_if(clusters.begin(), clusters.end(), [&](const auto& c) { return c.get() == &cluster; }));
}

void threads_exited(Launch& launch, Block& block, uint32_t threads) {
  block.live_threads -= threads;
  complete_barriers_after_exit(launch, block);
  if (block.live_threads == 0) {
    block.exited = true;
    --block.cluster->live_blocks;
    if (launch.observer) launch.observer->on_block_end(block);
  }
  if (block.asynchronous) block.asynchronous->threads_exited(launch, block);
  if (block.cluster->asynchronous) block.cluster->asynchronous->threads_exited(launch, block);
}

Result execute(const Call& call) {
  Launch launch;
  launch.code = call.code;
  launch.shape = call.shape;
  launch.options = call.options;
  launch.global = call.global;
  launch.observer = call.observer;
  launch.random = Random(mix(call.options.seed));
  launch.storage = std::make_unique<Storage>();
  std::vector<Instruction> fused;
  if (call.options.fuse) fused = with_fusions(*call.code, call.options.numerics_seed);
  launch.program = call.options.fuse ? fused.data() : call.code->instructions.data();
  launch.executed.assign(call.code->instructions.size(), 0);
  launch.lanes_executed.assign(call.code->instructions.size(), 0);
  Memory parameters(kParameterWindow, std::max<size_t>(1, call.parameters.size()));
  parameters.allocate(kParameterWindow, call.parameters.size(), "the kernel's parameters");
  std::memcpy(parameters.cell(kParameterWindow), call.parameters.data(), call.parameters.size());
  parameters.mark_defined(kParameterWindow, call.parameters.size());
  launch.parameters = &parameters;
  make_grid_workspace(launch);
  for (uint32_t rank = 0; rank < call.shape.cluster.count(); ++rank)
    launch.constants.push_back(make_constants(launch, rank));
  if (launch.observer) launch.observer->on_launch(launch);
  run(launch);
  if (launch.observer) launch.observer->on_launch_end(launch);
  sum_counters(launch);
  return {launch.counters, std::move(launch.executed), std::move(launch.lanes_executed), std::move(launch.printed)};
}

}  // namespace foretoken::machine
