// Copies and fills as they are asked for, checked and made into work.
#pragma once
#include "runtime.h"

namespace foretoken::ptx::runtime {

struct CopyRequest {
  void* to = nullptr;
  const void* from = nullptr;
  size_t to_pitch = 0, from_pitch = 0, width = 0, height = 1;  // bytes, rows
  cudaMemcpyKind kind = cudaMemcpyDefault;
  bool blocking = false;  // cudaMemcpy: the call returns when it has run
};

void copy(Runtime& runtime, Lock& lock, Stream& stream, const CopyRequest& request);

struct FillRequest {
  void* to = nullptr;
  int value = 0;
  size_t pitch = 0, width = 0, height = 1;
};

void fill(Runtime& runtime, Lock& lock, Stream& stream, const FillRequest& request);

// The device that owns an address, nullptr: host memory.
Device* owner_of(Runtime& runtime, const void* pointer);

}  // namespace foretoken::ptx::runtime
