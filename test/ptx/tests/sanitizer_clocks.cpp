// The engine of the race detector on sequences of events: clocks, lanes, the shadow, publication through words.
#include "doctest.h"
#include "machine/random.h"
#include "sanitizer/accesses.h"
#include "sanitizer/meetings.h"

using namespace foretoken::sanitizer;

namespace {

constexpr uint32_t kWarps = 4, kCluster = 7;
constexpr uint64_t kBase = 0x400;

// Warps of one cluster on one range of shared memory.
struct Scene {
  std::vector<WarpClock> warps;
  Shadow shadow{kBase, 4096, true};

  Scene() {
    for (uint32_t warp = 0; warp < kWarps; ++warp) warps.emplace_back(warp, warp + kWarps * kCopies, kAllLanes);
    shadow.reuse(kBase, 4096, kCluster);
  }

  Actor actor(uint32_t warp, Mask lanes) {
    return {.cluster = kCluster, .warps = kWarps, .clock = &warps[warp].common(), .warp = &warps[warp], .lanes = lanes};
  }
  // `lanes` consecutive ones from `lane` on access `bytes` each. True: no conflict.
  bool access(uint32_t warp, bool is_write, uint64_t address, uint32_t bytes, uint32_t lane = 0, uint32_t lanes = 1,
              bool strong = false, bool behind_proxy = false) {
    const Access what{Epoch(warps[warp].now(), warp, 0, strong), is_write, behind_proxy};
    const Actor by = actor(warp, ((1u << (lanes - 1) << 1) - 1) << lane);
    Visitor visitor(shadow, by, what);
    uint64_t addresses[32];
    for (uint32_t k = 0; k < lanes; ++k) addresses[lane + k] = kBase + address + uint64_t{bytes} * k;
    visitor.visit(addresses, by.lanes, bytes);
    conflict = visitor.conflict();
    return conflict.kind == Conflict::Kind::none;
  }
  bool write(uint32_t warp, uint64_t address, uint32_t bytes, uint32_t lane = 0, uint32_t lanes = 1) {
    return access(warp, true, address, bytes, lane, lanes);
  }
  bool read(uint32_t warp, uint64_t address, uint32_t bytes, uint32_t lane = 0, uint32_t lanes = 1) {
    return access(warp, false, address, bytes, lane, lanes);
  }
  void barrier() {
    for (WarpClock& warp : warps) warp.release(kAllLanes, at_barrier.arriving(phase));
    for (WarpClock& warp : warps) {
      warp.acquire(kAllLanes, kAllLanes, at_barrier.leaving(phase));
      warp.agree();
    }
    ++phase;
  }

  PhasedClock at_barrier;
  uint64_t phase = 0;
  Conflict conflict;
};

}  // namespace

TEST_CASE("sanitizer: another warp's write is ordered by a barrier alone") {
  Scene scene;
  CHECK(scene.write(0, 0, 4, 0, 32));
  CHECK_FALSE(scene.read(1, 124, 4, 31));
  CHECK(scene.conflict.earlier_is_write);
  CHECK(scene.conflict.earlier.epoch.lane() == 31);
  scene.barrier();
  CHECK(scene.read(1, 124, 4, 31));
  CHECK_FALSE(scene.write(0, 124, 4, 31));
  CHECK_FALSE(scene.conflict.earlier_is_write);
  scene.barrier();
  CHECK(scene.write(0, 124, 4, 31));
}

TEST_CASE("sanitizer: every reader since the last write counts") {
  for (uint32_t last = 0; last < kWarps; ++last) {
    Scene scene;
    // All but one publish what they read to warp 0.
    for (uint32_t warp = 0; warp < kWarps; ++warp) CHECK(scene.read(warp, 16, 16));
    Clock clock;
    for (uint32_t warp = 1; warp < kWarps; ++warp)
      if (warp != last) scene.warps[warp].release(kAllLanes, clock);
    scene.warps[0].acquire(kAllLanes, kAllLanes, clock);
    CHECK(scene.write(0, 16, 16) == (last == 0));
    if (last) CHECK(scene.conflict.earlier.epoch.agent() == last);
  }
}

TEST_CASE("sanitizer: lanes of a warp are ordered by a sync of both") {
  Scene scene;
  CHECK(scene.write(0, 0, 4, 0, 32));
  CHECK(scene.read(0, 0, 4, 0, 32));        // each its own
  CHECK_FALSE(scene.read(0, 4, 4, 0, 31));  // the neighbour's
  scene.warps[0].sync(0x3, kAllLanes);
  CHECK(scene.read(0, 4, 4, 0));  // lanes 0 and 1 have met
  CHECK_FALSE(scene.read(0, 8, 4, 0));
  scene.warps[0].sync(0x6, kAllLanes);
  CHECK_FALSE(scene.read(0, 0, 4, 2 + 1));
  CHECK(scene.read(0, 0, 4, 2));  // 0 before 1 before 2
  scene.warps[0].sync(kAllLanes, kAllLanes);
  CHECK(scene.read(0, 4, 4, 0, 31));
}

TEST_CASE("sanitizer: bytes of one word are told apart") {
  Scene scene;
  CHECK(scene.write(0, 0, 1, 0, 32));
  CHECK(scene.write(0, 5, 1, 5));
  CHECK_FALSE(scene.write(0, 6, 1, 5));
  CHECK(scene.write(1, 32, 2, 3));
  CHECK(scene.write(2, 34, 2, 3));
  CHECK_FALSE(scene.read(3, 32, 4));
  scene.barrier();
  CHECK(scene.write(3, 32, 16));
  CHECK_FALSE(scene.read(2, 47, 1));
  CHECK(scene.conflict.address == kBase + 47);
}

TEST_CASE("sanitizer: what one lane publishes does not speak for its neighbours") {
  Scene scene;
  CHECK(scene.read(1, 0, 4, 0, 32));
  Clock clock;
  scene.warps[1].release(1u << 9, clock);
  scene.warps[0].acquire(kAllLanes, kAllLanes, clock);
  CHECK(scene.write(0, 36, 4));        // lane 9's word
  CHECK_FALSE(scene.write(0, 40, 4));  // lane 10's
  CHECK(scene.conflict.earlier.epoch.lane() == 10);
}

TEST_CASE("sanitizer: what one lane acquires its neighbours know after a sync") {
  Scene scene;
  CHECK(scene.write(0, 0, 16));
  Clock clock;
  scene.warps[0].release(kAllLanes, clock);
  scene.warps[1].acquire(1, kAllLanes, clock);
  CHECK(scene.read(1, 0, 4, 0));
  CHECK_FALSE(scene.read(1, 4, 4, 1));
  scene.warps[1].sync(kAllLanes, kAllLanes);
  CHECK(scene.read(1, 4, 4, 1));
}

TEST_CASE("sanitizer: a phase's clock does not take in early arrivals of the next") {
  Scene scene;
  PhasedClock barrier;
  WarpClock &fast = scene.warps[0], &slow = scene.warps[1];
  fast.release(kAllLanes, barrier.arriving(0));
  slow.release(kAllLanes, barrier.arriving(0));
  fast.acquire(kAllLanes, kAllLanes, barrier.leaving(0));
  CHECK(scene.write(0, 0, 4));
  fast.release(kAllLanes, barrier.arriving(1));
  slow.acquire(kAllLanes, kAllLanes, barrier.leaving(0));
  CHECK_FALSE(scene.read(1, 0, 4));
}

TEST_CASE("sanitizer: strong accesses do not race with each other, but with weak ones") {
  Scene scene;
  CHECK(scene.access(0, true, 0, 4, 0, 1, true));
  CHECK(scene.access(1, true, 0, 4, 0, 1, true));
  CHECK(scene.access(2, false, 0, 4, 0, 1, true));
  CHECK_FALSE(scene.read(3, 0, 4));
}

TEST_CASE("sanitizer: the asynchronous proxy sees ordinary writes behind a fence, wherever on the way it lies") {
  for (const bool writer_fences : {true, false}) {
    Scene scene;
    CHECK(scene.write(0, 0, 16));
    if (writer_fences) scene.warps[0].proxy_fence(kAllLanes, kAllLanes);
    Clock clock;
    scene.warps[0].release(kAllLanes, clock);
    scene.warps[1].acquire(kAllLanes, kAllLanes, clock);
    if (!writer_fences) {
      CHECK_FALSE(scene.access(1, false, 0, 16, 0, 1, false, true));
      CHECK(scene.conflict.kind == Conflict::Kind::missing_proxy_fence);
      scene.warps[1].proxy_fence(1, kAllLanes);
      // Of the lane that fences.
      scene.warps[1].sync(kAllLanes, kAllLanes);
    }
    CHECK(scene.access(1, false, 0, 16, 0, 1, false, true));
  }
}

TEST_CASE("sanitizer: words publish a release, a fenced write, and what chains of atomics carry on") {
  constexpr uint64_t kWord = 0x1000;
  Scene scene;
  PublishedWords words;
  CHECK(scene.write(0, 0, 4));
  Clock released;
  scene.warps[0].release(1, released);
  words.publish(kWord, 4, kCluster, released, Reach::device, false);
  // Another's relaxed atomic adds nothing and hides nothing.
  Clock seen;
  CHECK(words.acquire(kWord, 4, kCluster, seen));
  CHECK_FALSE(words.acquire(kWord + 4, 4, kCluster, seen));
  scene.warps[1].remember(1, seen);
  CHECK_FALSE(scene.read(1, 0, 4));
  scene.warps[1].fence(1, kAllLanes, Reach::device);
  CHECK(scene.read(1, 0, 4));
  words.overwrite(kWord, 4);
  CHECK_FALSE(words.acquire(kWord, 4, kCluster, seen));

  // Seen from another cluster; not if it was published for the block alone.
  Clock elsewhere;
  words.publish(kWord, 4, kCluster, released, Reach::block, false);
  CHECK(words.acquire(kWord, 4, kCluster + 1, elsewhere));
  CHECK(elsewhere.remote.empty());
  words.publish(kWord, 4, kCluster, released, Reach::device, true);
  CHECK(words.acquire(kWord, 4, kCluster + 1, elsewhere));
  REQUIRE(elsewhere.remote.find(kCluster));
  CHECK(elsewhere.remote.find(kCluster)->seen.covers(0, 1, 1));
}

TEST_CASE("sanitizer: numbers of clusters from before are no accesses") {
  Scene scene;
  CHECK(scene.write(0, 0, 4));
  CHECK(scene.write(0, 6, 1));
  CHECK(scene.read(1, 32, 4));
  CHECK(scene.read(2, 32, 4));
  CHECK(scene.read(3, 32, 4));
  scene.shadow.reuse(kBase, 4096, kCluster + 1);
  // The third time round what was linked to the cell is gone.
  for (uint64_t at : {0, 4, 32, 32, 32}) {
    const WarpClock stranger(0, kWarps, kAllLanes);
    const Actor actor{
        .cluster = kCluster + 1, .warps = kWarps, .clock = &stranger.common(), .warp = &stranger, .lanes = 1};
    const Access what{Epoch(1, 0, 0, false), true, false};
    CHECK(Visitor(scene.shadow, actor, what).visit_piece(kBase + at, 4, 3));
  }
}

namespace {

// The same question answered by a list of all accesses since the last barrier.
class PlainModel {
 public:
  struct One {
    uint64_t byte;
    uint32_t warp, lane, syncs;
    bool is_write;
  };
  // Whether an access comes after all that it must come after; remembers it.
  bool access(uint32_t warp, bool is_write, const uint64_t* addresses, Mask lanes, uint32_t bytes) {
    bool in_order = true;
    std::vector<One> now;
    for (uint32_t lane = 0; lane < 32; ++lane)
      for (uint64_t byte = addresses[lane]; lanes >> lane & 1 && byte < addresses[lane] + bytes; ++byte) {
        now.push_back({byte, warp, lane, syncs_[warp], is_write});
        for (const One& earlier : all_)
          in_order =
              in_order && (earlier.byte != byte || !(earlier.is_write || is_write) || is_before(earlier, warp, lane));
      }
    all_.insert(all_.end(), now.begin(), now.end());
    return in_order;
  }
  void sync(uint32_t warp) { ++syncs_[warp]; }
  void barrier() { all_.clear(); }

 private:
  bool is_before(const One& earlier, uint32_t warp, uint32_t lane) const {
    return earlier.warp == warp && (earlier.lane == lane || earlier.syncs < syncs_[warp]);
  }
  std::vector<One> all_;
  uint32_t syncs_[kWarps] = {};
};

// The ways in which kernels walk through shared memory. Writes of one instruction do not overlap.
Mask make_addresses(foretoken::machine::Random& random, bool is_write, uint32_t bytes, uint64_t* addresses) {
  const uint64_t start = kBase + 16 * random.below(6);
  const uint32_t pattern = random.below(is_write ? 4 : 7), period = 1u << random.below(5);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint64_t places[] = {bytes * lane,                           // a row
                               144 * (lane / 4) + bytes * (lane % 4),  // eight rows, padded
                               bytes * (lane ^ 5),                     // swizzled
                               4 * bytes * lane,                       // strided
                               bytes * (lane % period),                // repeated
                               144 * (lane / 4),                       // a broadcast for each row
                               144 * (lane % 4) + bytes * (lane / 4 % 2)};
    addresses[lane] = start + places[pattern];
  }
  constexpr Mask kSome[] = {kAllLanes, kAllLanes, 0xffff, 0x0000ff00, 0x1, 0x55555555};
  return kSome[random.below(6)];
}

}  // namespace

TEST_CASE("sanitizer: whether random accesses are in order, as a list of all accesses says") {
  int conflicts = 0, accesses = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    CAPTURE(seed);
    foretoken::machine::Random random(seed);
    Scene scene;
    PlainModel model;
    for (int step = 0; step < 60; ++step) {
      const uint32_t warp = seed % 2 ? 0 : random.below(kWarps);  // between lanes alone, and between warps
      if (random.chance(3)) {
        const bool whole_block = random.chance(2);
        if (whole_block) {
          scene.barrier();
          model.barrier();
        } else {
          scene.warps[warp].sync(kAllLanes, kAllLanes);
          model.sync(warp);
        }
        continue;
      }
      const bool is_write = random.chance(3);
      const uint32_t bytes = 1u << random.below(5);
      uint64_t addresses[32];
      const Mask lanes = make_addresses(random, is_write, bytes, addresses);
      const Actor by = scene.actor(warp, lanes);
      const Access what{Epoch(scene.warps[warp].now(), warp, 0, false), is_write, false};
      Visitor visitor(scene.shadow, by, what);
      const bool in_order = visitor.visit(addresses, lanes, bytes);
      ++accesses;
      REQUIRE(in_order == model.access(warp, is_write, addresses, lanes, bytes));
      if (in_order) continue;
      ++conflicts;
      break;
    }
  }
  CHECK(conflicts > 100);
  CHECK(accesses > 1000);
}
