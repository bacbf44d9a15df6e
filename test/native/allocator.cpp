#include "core/allocator.h"

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/backends.h"
#include "core/device.h"
#include "doctest.h"

using namespace foretoken;

constexpr int64_t kMiB = 1 << 20;

static Allocator::Settings immediate(bool dry, int64_t limit = 0) {
  return {.dry = dry, .limit = limit, .after_enqueued = [](const std::function<void()>& run) { run(); }};
}

static Allocator::Block must(Allocator& allocator, int64_t bytes, Tag tag = Tag::other) {
  Failure failure;
  const auto block = allocator.allocate(bytes, tag, failure);
  REQUIRE(block.has_value());
  return *block;
}

static uintptr_t address(const Allocator::Block& block) { return reinterpret_cast<uintptr_t>(block.data); }

TEST_CASE("allocator: bytes are rounded to 64 and counted live, peak, requested, by tag") {
  Allocator allocator(immediate(false));
  const auto a = must(allocator, 1, Tag::parameter), b = must(allocator, 65, Tag::gradient);
  CHECK(allocator.ledger().total.live == 64 + 128);
  CHECK(allocator.ledger().requested == 66);
  allocator.free(b);
  CHECK(allocator.ledger().total.live == 64);
  CHECK(allocator.ledger().total.peak == 192);
  const Bytes& gradient = allocator.ledger().by_tag[static_cast<int>(Tag::gradient)];
  CHECK(gradient.live == 0);
  CHECK(gradient.peak == 128);
  allocator.reset_peak();
  CHECK(allocator.ledger().total.peak == 64);
  allocator.free(a);
  CHECK(allocator.ledger().total.live == 0);
  CHECK(allocator.ledger().requested == 0);
}

TEST_CASE("allocator: blocks are aligned, apart, and reusable at once") {
  Allocator allocator(immediate(false));
  const auto a = must(allocator, 100), b = must(allocator, 0), c = must(allocator, 3 * kMiB);
  for (const auto& block : {a, b, c}) CHECK(address(block) % 64 == 0);
  CHECK(address(a) != address(b));
  std::memset(c.data, 7, 3 * kMiB);
  allocator.free(a);
  CHECK(must(allocator, 128).data == a.data);
  allocator.free(c);
  CHECK(must(allocator, 3 * kMiB).data == c.data);
}

TEST_CASE("allocator: freed neighbours join, in every order of freeing") {
  const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const auto& order : orders) {
    Allocator allocator(immediate(true));
    const Allocator::Block blocks[3] = {must(allocator, 1024), must(allocator, 1024), must(allocator, 1024)};
    const auto guard = must(allocator, 64);
    for (const int i : order) allocator.free(blocks[i]);
    CHECK(must(allocator, 3072).data == blocks[0].data);
    allocator.free(guard);
  }
}

TEST_CASE("allocator: the limit is a recoverable error that names wanted, live and limit") {
  Allocator allocator(immediate(false, 4 * kMiB));
  const auto a = must(allocator, 3 * kMiB);
  Failure failure;
  CHECK(!allocator.allocate(2 * kMiB, Tag::activation, failure));
  CHECK(failure.code == "OUT_OF_MEMORY");
  for (const int64_t number : {2 * kMiB, 3 * kMiB, 4 * kMiB})
    CHECK(failure.text.find(std::to_string(number)) != std::string::npos);
  CHECK(allocator.ledger().total.live == 3 * kMiB);
  allocator.free(a);
  must(allocator, 4 * kMiB);
}

TEST_CASE("allocator: more than the machine has is refused, then what fits is given") {
  Allocator allocator(immediate(false));
  Failure failure;
  CHECK(!allocator.allocate(int64_t{1} << 50, Tag::other, failure));
  CHECK(failure.code == "OUT_OF_MEMORY");
  must(allocator, kMiB);
}

// A script of allocations and frees of many sizes. Blocks must never overlap; each is filled with a byte of its own
// that must still be there when it is freed.
struct Script {
  Allocator& allocator;
  bool real;
  std::mt19937 random{7};
  std::vector<std::pair<Allocator::Block, int64_t>> live;
  std::vector<int64_t> offsets;

  void run(int steps, int64_t most) {
    const uintptr_t first = address(must(allocator, 64));
    for (int i = 0; i < steps; i++) {
      if (live.size() < 40 && random() % 5 < 3) {
        const int64_t bytes = 1 + static_cast<int64_t>(random() % (random() % 4 ? 5000 : static_cast<unsigned>(most)));
        const auto block = must(allocator, bytes, static_cast<Tag>(random() % kTags));
        offsets.push_back(static_cast<int64_t>(address(block) - first));
        if (real) std::memset(block.data, static_cast<int>(block.id), static_cast<size_t>(bytes));
        live.emplace_back(block, bytes);
      } else if (!live.empty()) {
        const size_t at = random() % live.size();
        check_contents(live[at]);
        allocator.free(live[at].first);
        live.erase(live.begin() + static_cast<int64_t>(at));
      }
    }
  }

  void check_contents(const std::pair<Allocator::Block, int64_t>& entry) const {
    if (!real) return;
    const auto* bytes = static_cast<const unsigned char*>(entry.first.data);
    const auto wanted = static_cast<unsigned char>(entry.first.id);
    REQUIRE(bytes[0] == wanted);
    REQUIRE(std::memcmp(bytes, bytes + 1, static_cast<size_t>(entry.second - 1)) == 0);
  }
};

TEST_CASE("allocator: random use never overlaps, and the dry ledger is equal to the byte") {
  Allocator real(immediate(false)), dry(immediate(true));
  Script on_real{.allocator = real, .real = true, .live = {}, .offsets = {}};
  Script on_dry{.allocator = dry, .real = false, .live = {}, .offsets = {}};
  on_real.run(4000, 3 * kMiB);
  on_dry.run(4000, 3 * kMiB);
  CHECK(real.ledger().total.live == dry.ledger().total.live);
  CHECK(real.ledger().total.peak == dry.ledger().total.peak);
  CHECK(real.resident() == dry.resident());
  for (int tag = 0; tag < kTags; tag++) CHECK(real.ledger().by_tag[tag].peak == dry.ledger().by_tag[tag].peak);
}

static int64_t resident_bytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field)) return std::stoll(line.substr(line.find(':') + 1)) * 1024;
  return 0;
}

// Fragmentation on purpose: every second of many blocks is freed, and what comes next is larger than those holes.
// Without giving pages back, the holes stay resident beside what comes next: half as much again as the peak.
struct Fragmented {
  static constexpr int64_t kCount = 30, kHole = 2 * kMiB, kLarger = 3 * kMiB;
  std::vector<Allocator::Block> pins, holes, larger;

  template <class Use>
  void run(Allocator& allocator, Use use) {
    for (int64_t i = 0; i < kCount; i++) {
      holes.push_back(must(allocator, kHole));
      use(holes.back(), kHole);
      pins.push_back(must(allocator, kHole));
      use(pins.back(), kHole);
    }
    for (const auto& hole : holes) allocator.free(hole);
    for (int64_t i = 0; i < kCount * kHole / kLarger; i++) {
      larger.push_back(must(allocator, kLarger));
      use(larger.back(), kLarger);
    }
  }
};

TEST_CASE("allocator: what is resident stays near the peak, by count and by the system's own count") {
  Allocator allocator(immediate(false));
  const int64_t before = resident_bytes("VmRSS");
  int64_t most = 0;
  Fragmented().run(allocator, [&](const Allocator::Block& block, int64_t bytes) {
    std::memset(block.data, 1, static_cast<size_t>(bytes));
    most = std::max(most, resident_bytes("VmRSS") - before);
  });
  const int64_t peak = allocator.ledger().total.peak, bound = peak + peak * 3 / 100 + 16 * kMiB;
  CHECK(peak == 120 * kMiB);
  CHECK(allocator.resident() <= bound);
  CHECK(most <= bound);
  CHECK(most >= peak * 9 / 10);  // the measurement sees the memory
}

TEST_CASE("allocator: a loop settles and gives nothing back any more") {
  int purges = 0;
  Allocator allocator({.dry = false, .limit = 0, .after_enqueued = [&](const std::function<void()>& run) {
                         purges++;
                         run();
                       }});
  const int64_t sizes[] = {5 * kMiB, 9 * kMiB, 2 * kMiB, 12 * kMiB, 100, 7 * kMiB};
  const auto loop = [&] {
    std::vector<Allocator::Block> blocks;
    for (const int64_t size : sizes) {
      blocks.push_back(must(allocator, size));
      if (blocks.size() == 4) {
        allocator.free(blocks[1]);
        blocks.erase(blocks.begin() + 1);
      }
    }
    for (const auto& block : blocks) allocator.free(block);
  };
  for (int i = 0; i < 10; i++) loop();
  const int settled = purges;
  for (int i = 0; i < 100; i++) loop();
  CHECK(purges == settled);
}

TEST_CASE("allocator: a recording keeps its memory until it is released") {
  Allocator allocator(immediate(false));
  const auto outside = must(allocator, 4096);
  allocator.free(outside);
  const Arena::Owner recording = allocator.begin_recording();
  const auto a = must(allocator, 4096, Tag::activation);
  allocator.free(a);
  const auto b = must(allocator, 4096, Tag::gradient);
  CHECK(b.data == a.data);  // reused inside
  allocator.end_recording();
  allocator.free(b);
  CHECK(allocator.ledger().total.live == 4096);
  CHECK(allocator.ledger().by_tag[static_cast<int>(Tag::recording)].live == 4096);
  const auto c = must(allocator, 4096);
  CHECK(c.data != a.data);  // not by others
  allocator.release_recording(recording);
  CHECK(allocator.ledger().total.live == 4096);
  CHECK(must(allocator, 4096).data == a.data);
}

TEST_CASE("allocator: a block that outlives its recording is freed like any other") {
  Allocator allocator(immediate(false));
  const Arena::Owner recording = allocator.begin_recording();
  const auto kept = must(allocator, 2 * kMiB), dropped = must(allocator, kMiB);
  allocator.free(dropped);
  allocator.end_recording();
  allocator.release_recording(recording);
  CHECK(allocator.ledger().total.live == 2 * kMiB);
  allocator.free(kept);
  CHECK(allocator.ledger().total.live == 0);
  CHECK(allocator.ledger().by_tag[static_cast<int>(Tag::recording)].live == 0);
}

// ---- device --------------------------------------------------------------------------------------------------------

static const Backend& generic_backend() {
  Failure failure;
  const Backend* found = find_cpu_backend("generic", failure);
  REQUIRE(found != nullptr);
  return *found;
}

TEST_CASE("device: memory given back while ops that use it are queued stays theirs until they have run") {
  Device device(generic_backend(), false, 0);
  int wrong = 0;
  std::atomic<bool> open{false};
  device.enqueue([&open](Stream&) {
    while (!open) std::this_thread::yield();  // everything below is decided before anything of it runs
  });
  Fragmented().run(device.allocator(), [&](const Allocator::Block& block, int64_t bytes) {
    std::memset(block.data, 42, static_cast<size_t>(bytes));  // no op has used this memory yet
    device.enqueue([block, bytes, &wrong](Stream&) {
      const auto* data = static_cast<const unsigned char*>(block.data);
      wrong += data[0] != 42 || std::memcmp(data, data + 1, static_cast<size_t>(bytes - 1)) != 0;
    });
  });
  CHECK(device.allocator().resident() < 140 * kMiB);  // pages were given back
  open = true;
  device.stream()->wait();
  CHECK(wrong == 0);
}

TEST_CASE("device: what is recorded runs at each replay and only then") {
  Device device(generic_backend(), false, 0);
  int runs = 0;
  device.begin_recording();
  device.enqueue([&runs](Stream&) { runs++; });
  device.enqueue([&runs](Stream&) { runs *= 10; });
  const uint32_t recording = device.end_recording();
  device.stream()->wait();
  CHECK(runs == 0);
  device.replay(recording, 2);
  device.free_recording(recording);  // the queued replays still hold it
  device.stream()->wait();
  CHECK(runs == 110);
  CHECK(!device.has_recording(recording));
}

TEST_CASE("device: one of several recordings, named by what the stream finds when it gets there") {
  Device device(generic_backend(), false, 0);
  int sum = 0;
  int32_t index = 0;
  std::vector<uint32_t> recordings;
  for (int amount : {1, 10, 100}) {
    device.begin_recording();
    device.enqueue([&sum, amount](Stream&) { sum += amount; });
    recordings.push_back(device.end_recording());
  }
  const uint32_t last = recordings.back();
  const uint32_t combined = device.combine(std::span(recordings).first(2), &index, {&last, 1});
  for (int32_t wanted : {1, 0, -1, 3}) {
    device.enqueue([&index, wanted](Stream&) { index = wanted; });
    device.replay(combined, 2);
  }
  recordings.push_back(combined);
  for (const uint32_t recording : recordings) device.free_recording(recording);  // the queued replays still hold them
  device.stream()->wait();
  CHECK(sum == 2 * (10 + 1 + 1 + 10 + 4 * 100));
}

TEST_CASE("device: the dry one drops ops and has as many threads as the real one") {
  Device real(generic_backend(), false, 0), dry(generic_backend(), true, 0);
  CHECK(dry.machine().threads == real.machine().threads);
  int runs = 0;
  dry.enqueue([&runs](Stream&) { runs++; });
  CHECK(runs == 0);
  CHECK(dry.stream() == nullptr);
}

TEST_CASE("backends: an unknown SIMD level is an error that names the usable ones") {
  Failure failure;
  CHECK(find_cpu_backend("avx9000", failure) == nullptr);
  CHECK(failure.code == "NO_DEVICE");
  CHECK(failure.got == "avx9000");
  CHECK(failure.wanted.find("generic") != std::string::npos);
}
