// The system's memory (Linux), and the memory that is not there.
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "pages.h"

namespace foretoken {

namespace {

class SystemMemory final : public Backing {
 public:
  ~SystemMemory() override {
    if (reserved_) munmap(reserved_, static_cast<size_t>(bytes_));
  }

  int64_t page_bytes() const override { return page_; }

  uintptr_t reserve(int64_t bytes) override {
    const int64_t with_rest = bytes + Pages::kUnit;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* at = mmap(nullptr, static_cast<size_t>(with_rest), PROT_NONE, flags, -1, 0);
    if (at == MAP_FAILED) return 0;
    reserved_ = at;
    bytes_ = with_rest;
    base_ = (reinterpret_cast<uintptr_t>(at) + Pages::kUnit - 1) / Pages::kUnit * Pages::kUnit;
    return base_;
  }

  bool grow(int64_t from, int64_t to) override {
    const auto bytes = static_cast<size_t>(to - from);
    if (mprotect(at(from), bytes, PROT_READ | PROT_WRITE) != 0) return false;
    // With pages of 4 KB a huge one is a unit; with others it is larger than what is counted.
    madvise(at(from), bytes, page_ == 4096 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return true;
  }

  bool populate(int64_t, int64_t) override { return true; }

  void drop(int64_t offset, int64_t bytes) override {
    madvise(at(offset), static_cast<size_t>(bytes), MADV_DONTNEED);
    // Else the system might join the small pages around into a huge one, and what was dropped were resident again.
    madvise(at(offset), static_cast<size_t>(bytes), MADV_NOHUGEPAGE);
  }

 private:
  void* at(int64_t offset) const { return reinterpret_cast<void*>(base_ + static_cast<uintptr_t>(offset)); }

  const int64_t page_ = sysconf(_SC_PAGESIZE);
  void* reserved_ = nullptr;
  int64_t bytes_ = 0;
  uintptr_t base_ = 0;
};

class NoMemory final : public Backing {
 public:
  explicit NoMemory(int64_t page) : page_(page) {}
  int64_t page_bytes() const override { return page_; }
  uintptr_t reserve(int64_t) override { return uintptr_t{1} << 46; }
  bool grow(int64_t, int64_t) override { return true; }
  bool populate(int64_t, int64_t) override { return true; }
  void drop(int64_t, int64_t) override {}

 private:
  const int64_t page_;
};

}  // namespace

std::shared_ptr<Backing> system_memory() { return std::make_shared<SystemMemory>(); }

std::shared_ptr<Backing> no_memory(int64_t page_bytes) { return std::make_shared<NoMemory>(page_bytes); }

}  // namespace foretoken
