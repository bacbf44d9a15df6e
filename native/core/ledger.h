// The byte ledger of a device: what is live and what was at most, in total and by tag. Decided on the calling thread,
// so that equal sequences of calls give equal numbers, on the dry device too.
#pragma once
#include <cstdint>

namespace foretoken {

// What a block is for.
#define FORETOKEN_TAGS(X) \
  X(parameter)            \
  X(gradient)             \
  X(optimizer)            \
  X(activation)           \
  X(workspace)            \
  X(cache)                \
  X(data)                 \
  X(recording)            \
  X(other)

enum class Tag : uint8_t {
#define X(name) name,
  FORETOKEN_TAGS(X)
#undef X
};

constexpr const char* kTagNames[] = {
#define X(name) #name,
    FORETOKEN_TAGS(X)
#undef X
};
constexpr int kTags = sizeof kTagNames / sizeof *kTagNames;

struct Bytes {
  int64_t live = 0, peak = 0;

  void add(int64_t bytes) {
    live += bytes;
    if (live > peak) peak = live;
  }
};

struct Ledger {
  Bytes total, by_tag[kTags];
  int64_t requested = 0;  // of the live blocks, before rounding

  void reset_peak() {
    total.peak = total.live;
    for (Bytes& bytes : by_tag) bytes.peak = bytes.live;
  }
};

}  // namespace foretoken
