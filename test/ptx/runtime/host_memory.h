// Host memory that the device's copies read and write when they run: allocated page-locked, or registered.
#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "error.h"

namespace foretoken::ptx::runtime {

class HostMemory {
 public:
  ~HostMemory();
  void* allocate(size_t bytes, unsigned flags);
  void free(void* pointer);
  void add(void* pointer, size_t bytes, unsigned flags);  // cudaHostRegister
  void remove(void* pointer);

  // All of [pointer, pointer + bytes) is page-locked.
  bool is_pinned(const void* pointer, size_t bytes) const;
  // Throws cudaErrorInvalidValue if it is not in page-locked memory.
  unsigned flags(const void* pointer) const;

  // Copies that are enqueued and have not read their source yet.
  void begin_read(const void* from, size_t bytes);
  void end_read(const void* from, size_t bytes);
  // Until a copy to it has run, the host sees no value that could pass for a result. Not if a copy still reads there.
  void poison(void* to, size_t bytes) const;

 private:
  struct Range {
    size_t bytes = 0;
    unsigned flags = 0;
    bool registered = false;
  };
  struct Read {
    const char* begin;
    const char* end;
  };
  const Range* find(const void* pointer) const;

  std::map<const char*, Range> ranges_;
  std::vector<Read> reads_;
};

}  // namespace foretoken::ptx::runtime
