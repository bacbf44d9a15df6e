// The parts of a kernel's workspace, one behind the other. The query cuts up nullptr, the run the workspace: the same
// calls give the size and the places.
#pragma once
#include <cstddef>
#include <cstdint>

namespace foretoken::cuda {

// nullptr in the product. Tests set it before any query: then every part is followed by a gap that belongs to no part,
// and the hook is told where, so that a device that watches addresses sees a kernel leave its part.
inline void (*gap_hook)(const void* begin, size_t bytes) = nullptr;

class Workspace {
 public:
  // Parts are rounded up to a multiple of `alignment`; 1: each starts where the one before ends.
  explicit Workspace(void* base, size_t alignment = 1) : base_(static_cast<char*>(base)), alignment_(alignment) {}

  template <class T>
  T* take(int64_t count) {
    char* part = base_ + used_;
    size_t end = used_ + static_cast<size_t>(count) * sizeof(T);
    used_ = (end + alignment_ - 1) / alignment_ * alignment_;
    if (gap_hook) leave_gap(end);
    return reinterpret_cast<T*>(part);
  }

  size_t bytes() const { return used_; }

  // Parts that are not needed at the same time share a place: what is taken next starts again at `begin`, and
  // skip_to(end) passes what was there before. Under the hook they do not share: a gap behind one would lie in another.
  void go_back_to(size_t begin) {
    if (!gap_hook) used_ = begin;
  }
  void skip_to(size_t end) {
    if (used_ < end) used_ = end;
  }

 private:
  static constexpr size_t kGap = 256;  // keeps what alignment a part has

  char* base_;
  size_t alignment_, used_ = 0;

  // With the rounding, which is no part's either.
  void leave_gap(size_t begin) {
    used_ += kGap;
    if (base_) gap_hook(base_ + begin, used_ - begin);
  }
};

}  // namespace foretoken::cuda
