// A list of tensors as the parameter of a kernel: passed by value in pieces of a few kilobytes, so that a launch can be
// recorded and nothing is copied beforehand. Each tensor is cut into blocks of its own.
#pragma once
#include "device.cuh"

namespace foretoken::cuda {

constexpr int kListTensors = 48;         // of one launch
constexpr int64_t kListBlock = 8192;     // elements of one block
constexpr int kListThreads = 256;        // of one block
constexpr size_t kListBytes = 4 * 1024;  // that a kernel's parameters may take on every device

// The elements [first, last) of one tensor of a piece.
struct ListPlace {
  int tensor;
  int64_t first, last;
};

// What Item says of each of up to kListTensors tensors that are not empty, and which block works on which.
template <class Item>
struct ListPiece {
  Item items[kListTensors];
  int64_t first_block[kListTensors], counts[kListTensors];
  int64_t blocks = 0;
  int tensors = 0;

  void add(const Item& item, int64_t count) {
    items[tensors] = item;
    first_block[tensors] = blocks;
    counts[tensors] = count;
    blocks += ceil_div(count, kListBlock);
    tensors++;
  }
  __device__ ListPlace place(int64_t block) const {
    int tensor = 0, end = tensors;  // its first block ≤ block < that of `end`
    while (end - tensor > 1) {
      const int middle = (tensor + end) / 2;
      (first_block[middle] <= block ? tensor : end) = middle;
    }
    const int64_t first = (block - first_block[tensor]) * kListBlock, count = counts[tensor];
    return {tensor, first, first + kListBlock < count ? first + kListBlock : count};
  }
};

// body(piece) for `tensors` tensors in order; item(i) and count(i) say what tensor i is.
template <class Item, class Make, class Count, class Body>
static inline void for_each_piece(int64_t tensors, Make item, Count count, Body body) {
  static_assert(sizeof(ListPiece<Item>) + 64 <= kListBytes, "leaves room for the other parameters");
  ListPiece<Item> piece = {};
  for (int64_t i = 0; i < tensors; i++) {
    if (count(i) == 0) continue;
    piece.add(item(i), count(i));
    if (piece.tensors < kListTensors) continue;
    body(piece);
    piece = {};
  }
  if (piece.tensors > 0) body(piece);
}

}  // namespace foretoken::cuda
