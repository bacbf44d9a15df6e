// How element-wise work is cut into tasks: by shape alone, never by the number of threads.
#pragma once
#include "level.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int64_t kBlock = 16384;  // elements a task

static inline int64_t blocks_of(int64_t count) { return (count + kBlock - 1) / kBlock; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// body(first, last) over the elements [0, count).
template <class Body>
static inline void for_blocks(const Call& call, int64_t count, Body body) {
  parallel_for(call, blocks_of(count),
               [&](int64_t block, int) { body(block * kBlock, smaller(block * kBlock + kBlock, count)); });
}

// body(first, last) over the rows [0, rows), each of `columns` elements.
template <class Body>
static inline void for_rows(const Call& call, int64_t rows, int64_t columns, Body body) {
  int64_t step = larger(1, kBlock / larger(1, columns));
  parallel_for(call, (rows + step - 1) / step,
               [&](int64_t task, int) { body(task * step, smaller(task * step + step, rows)); });
}

// Rows cut into slabs, each of which keeps its own partial column sums; the slabs are then added in order.
struct Slabs {
  int64_t count, rows;  // the last slab may be shorter
};
static inline Slabs slabs_of(int64_t rows) {
  constexpr int64_t kMostSlabs = 64, kFewestRows = 16;
  int64_t rows_per_slab = larger(kFewestRows, (rows + kMostSlabs - 1) / kMostSlabs);
  return {(rows + rows_per_slab - 1) / rows_per_slab, rows_per_slab};
}

// One block of a list of tensors.
struct ListBlock {
  int64_t tensor, first, last;  // elements [first, last) of that tensor
};

template <class Access>
static inline int64_t list_blocks(const List<Access>& list) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < list.count; i++) blocks += blocks_of(element_count(list.data[i]));
  return blocks;
}

template <class Access>
static inline ListBlock list_block(const List<Access>& list, int64_t block) {
  int64_t tensor = 0;
  for (int64_t blocks; block >= (blocks = blocks_of(element_count(list.data[tensor]))); tensor++) block -= blocks;
  return {tensor, block * kBlock, smaller(block * kBlock + kBlock, element_count(list.data[tensor]))};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
