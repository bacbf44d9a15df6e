// Views: what a kernel sees of a tensor. Plain data, so that per-level objects emit no shared inline functions.
#pragma once
#include <cstdint>

#include "dtype.h"

namespace foretoken {

constexpr int kMaxRank = 4;

// Row-major everywhere but for weights packed by `pack_weight`, whose inner order belongs to the backend.
enum class Layout : uint8_t { row_major, packed };

// A contiguous tensor. data == nullptr stands for an optional argument that was not given.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Layout layout = Layout::row_major;
  int8_t rank = 0;
  int64_t shape[kMaxRank] = {0, 0, 0, 0};
};

// The three ways a kernel may use a view; a kernel writes only its Out and InOut views.
struct In : View {};
struct Out : View {};
struct InOut : View {};

// Several tensors in one argument; the call owns the array until it has run.
template <class Access>
struct List {
  const Access* data = nullptr;
  int64_t count = 0;
};
using InList = List<In>;
using InOutList = List<InOut>;

// Numbers, one per tensor of a list.
struct Floats {
  const float* data = nullptr;
  int64_t count = 0;
};

static inline int64_t element_count(const View& view) {
  int64_t count = 1;
  for (int i = 0; i < view.rank; i++) count *= view.shape[i];
  return count;
}

static inline int64_t last_dimension(const View& view) { return view.rank ? view.shape[view.rank - 1] : 1; }

// All dimensions but the last: the number of rows.
static inline int64_t row_count(const View& view) {
  int64_t count = 1;
  for (int i = 0; i + 1 < view.rank; i++) count *= view.shape[i];
  return count;
}

static inline bool given(const View& view) { return view.data != nullptr; }

}  // namespace foretoken
