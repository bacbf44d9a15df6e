// The allocator over a GPU's memory: pages that come one by one and may be refused, or blocks each by itself.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "doctest.h"

using namespace foretoken;

namespace {

constexpr int64_t kMiB = 1 << 20;

// Memory of so many pages, handed out to ranges or as blocks; counts what is asked of it.
class CountingGpu final : public Gpu {
 public:
  CountingGpu(int64_t pages, bool ranges) : free_pages(pages), ranges_(ranges) {}

  int64_t free_pages;
  int waits = 0;
  std::map<void*, int64_t> blocks;

  void abandon() override {}
  const GpuInfo& info() const override { return info_; }
  int64_t default_limit() const override { return int64_t{1} << 40; }
  std::shared_ptr<Backing> backing() override { return ranges_ ? std::make_shared<Range>(*this) : nullptr; }
  void* allocate(int64_t bytes) override {
    void* data = reinterpret_cast<void*>(next_ += 1 << 30);
    blocks[data] = bytes;
    return data;
  }
  void free(void* data) override { REQUIRE(blocks.erase(data) == 1); }
  void wait_for_memory() override { waits++; }
  void* stream() const override { return nullptr; }
  Failure enter(const char*) override { return {}; }
  Failure launched(const char*) override { return {}; }
  Failure write(void*, const void*, int64_t) override { return {}; }
  void read(void*, const void*, int64_t, Done) override {}
  Failure begin_recording() override { return {}; }
  Failure end_recording(uint32_t) override { return {}; }
  void abandon_recording() override {}
  Failure replay(uint32_t) override { return {}; }
  void free_recording(uint32_t) override {}

 private:
  class Range final : public Backing {
   public:
    explicit Range(CountingGpu& gpu) : gpu_(gpu) {}
    int64_t page_bytes() const override { return kGpuPage; }
    uintptr_t reserve(int64_t) override { return gpu_.next_ += int64_t{1} << 44; }
    bool grow(int64_t, int64_t) override { return true; }
    bool populate(int64_t offset, int64_t bytes) override {
      std::vector<int64_t> missing;
      for (int64_t page = offset / kGpuPage; page < (offset + bytes) / kGpuPage; page++)
        if (!pages_.contains(page)) missing.push_back(page);
      if (static_cast<int64_t>(missing.size()) > gpu_.free_pages) return false;
      gpu_.free_pages -= static_cast<int64_t>(missing.size());
      pages_.insert(missing.begin(), missing.end());
      return true;
    }
    void drop(int64_t offset, int64_t bytes) override {
      REQUIRE(gpu_.waits > 0);  // something might still use them
      for (int64_t page = offset / kGpuPage; page < (offset + bytes) / kGpuPage; page++)
        gpu_.free_pages += static_cast<int64_t>(pages_.erase(page));
    }

   private:
    CountingGpu& gpu_;
    std::set<int64_t> pages_;
  };

  const bool ranges_;
  const GpuInfo info_ = {};
  uintptr_t next_ = uintptr_t{1} << 40;
};

Allocator::Settings of(CountingGpu& gpu, int64_t limit = 0) {
  return {.limit = limit,
          .after_enqueued =
              [&gpu](const std::function<void()>& run) {
                gpu.wait_for_memory();
                run();
              },
          .of_gpu = true,
          .gpu = &gpu};
}

Allocator::Block must(Allocator& allocator, int64_t bytes, Tag tag = Tag::other) {
  Failure failure;
  const auto block = allocator.allocate(bytes, tag, failure);
  REQUIRE(block.has_value());
  return *block;
}

}  // namespace

TEST_CASE("gpu allocator: takes the pages that blocks need, and keeps them") {
  CountingGpu gpu(100, true);
  Allocator allocator(of(gpu));
  const auto small = must(allocator, 64), large = must(allocator, 5 * kMiB);
  CHECK(gpu.free_pages == 100 - 1 - 3);
  CHECK(allocator.resident() == 4 * kGpuPage);
  allocator.free(large);
  CHECK(must(allocator, 6 * kMiB).data == large.data);
  CHECK(gpu.free_pages == 96);
  CHECK(gpu.waits == 0);
  allocator.free(small);
}

TEST_CASE("gpu allocator: when the GPU has no more, what is free goes back, after a wait, and is enough") {
  CountingGpu gpu(20, true);
  Allocator allocator(of(gpu));
  const auto hole = must(allocator, 16 * kMiB), pin = must(allocator, 8 * kMiB);
  allocator.free(hole);
  const auto larger =
      must(allocator, 24 * kMiB);  // not into the hole, and 8 pages are left: 4 of the hole's are needed
  CHECK(gpu.waits >= 1);
  CHECK(allocator.resident() == 16 * kGpuPage);
  CHECK(gpu.free_pages == 4);
  allocator.free(pin);
  allocator.free(larger);
}

TEST_CASE("gpu allocator: running out says so, loses nothing, and what fits is given after it") {
  CountingGpu gpu(10, true);
  Allocator allocator(of(gpu, 1000 * kMiB));
  const auto kept = must(allocator, 8 * kMiB, Tag::parameter);
  const Ledger before = allocator.ledger();
  Failure failure;
  CHECK(!allocator.allocate(16 * kMiB, Tag::activation, failure));
  CHECK(failure.code == "OUT_OF_MEMORY");
  CHECK(failure.argument == "activation");
  CHECK(failure.text.find("the device has no more to give") != std::string::npos);
  CHECK(allocator.ledger().total.live == before.total.live);
  CHECK(allocator.ledger().total.peak == before.total.peak);
  CHECK(gpu.free_pages == 6);
  failure = {};
  CHECK(!allocator.allocate(1000 * kMiB, Tag::activation, failure));
  CHECK(failure.text.find("no more to give") == std::string::npos);  // here it is the limit
  must(allocator, 12 * kMiB);
  allocator.free(kept);
}

TEST_CASE("gpu allocator: fragmentation keeps no more than the limit and its slack") {
  constexpr int64_t kLimit = 200 * kMiB;
  CountingGpu gpu(1000, true);
  Allocator allocator(of(gpu, kLimit));
  std::vector<Allocator::Block> pins;
  for (int64_t hole = 4; hole < 12; hole++) {
    std::vector<Allocator::Block> holes;
    for (int64_t i = 0; i < 96 / hole; i++) {
      holes.push_back(must(allocator, hole * kMiB));
      pins.push_back(must(allocator, kMiB));
    }
    for (const auto& block : holes) allocator.free(block);
    CHECK(allocator.resident() <= kLimit + kLimit / 64 + 4 * kMiB);
    CHECK(allocator.resident() == (1000 - gpu.free_pages) * kGpuPage);
  }
  CHECK(gpu.waits > 0);
  for (const auto& block : pins) allocator.free(block);
}

TEST_CASE("gpu allocator: blocks by themselves have the bytes asked for and the same ledger") {
  CountingGpu paged(1000, true), apart(0, false);
  Allocator with_pages(of(paged)), by_itself(of(apart)), dry({.dry = true, .of_gpu = true});
  std::vector<Allocator::Block> blocks[3];
  Allocator* const allocators[3] = {&with_pages, &by_itself, &dry};
  for (int i = 0; i < 3; i++) {
    for (const int64_t bytes : {int64_t{1}, int64_t{100}, 3 * kMiB + 5, int64_t{0}, 2 * kMiB})
      blocks[i].push_back(must(*allocators[i], bytes));
    allocators[i]->free(blocks[i][2]);
    blocks[i].push_back(must(*allocators[i], kMiB + 7, Tag::workspace));
  }
  for (const Allocator* other : {&by_itself, &dry}) {
    CHECK(other->ledger().total.live == with_pages.ledger().total.live);
    CHECK(other->ledger().total.peak == with_pages.ledger().total.peak);
    CHECK(other->ledger().requested == with_pages.ledger().requested);
    CHECK(other->resident() == with_pages.resident());
  }
  std::multiset<int64_t> sizes;
  for (const auto& [data, bytes] : apart.blocks) sizes.insert(bytes);
  CHECK(sizes == std::multiset<int64_t>{0, 1, 100, kMiB + 7, 2 * kMiB});
}

TEST_CASE("gpu allocator: a block by itself that was freed in a recording lives as long as the recording") {
  CountingGpu gpu(0, false);
  Allocator allocator(of(gpu));
  const Arena::Owner recording = allocator.begin_recording();
  const auto freed = must(allocator, 4096);
  allocator.free(freed);
  const auto reused = must(allocator, 4096);
  CHECK(reused.data != freed.data);  // so that a tool sees each one's end
  CHECK(allocator.ledger().total.peak == 4096);
  allocator.end_recording();
  CHECK(gpu.blocks.size() == 2);
  allocator.release_recording(recording);
  CHECK(gpu.blocks.size() == 1);
  allocator.free(reused);
  CHECK(gpu.blocks.empty());
  CHECK(allocator.ledger().total.live == 0);
}
