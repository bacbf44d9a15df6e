// Runs the kernel tests on the CUDA backend: ferries each call's tensors to the device and back. Without
// FORETOKEN_TEST_CUDA there is no such backend, and nothing here does anything.
#pragma once
#include "kernels.h"

#if !defined(FORETOKEN_TEST_CUDA)

namespace foretoken::test::gpu {
inline void announce(const void*, size_t) {}
inline void forget(const void*) {}
inline const Backend* backend() { return nullptr; }
inline bool owns(const void*) { return false; }
template <class... Args>
void run(const Slot<Args...>&, const std::type_identity_t<Args>&...) {}
}  // namespace foretoken::test::gpu

#else

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/backends.h"
#include "core/env.h"
#include "cuda/failure.h"
#include "cuda/workspace.h"
#include "doctest.h"

// Of the software GPU (test/ptx/runtime/hooks.h); nullptr when linked with the runtime of CUDA.
extern "C" void ptx_forbid(const void* begin, size_t bytes) __attribute__((weak));

namespace foretoken::test::gpu {

// ---- host buffers ---------------------------------------------------------------------------------------------------

// Start and size in bytes of every Buffer that is alive: a view of one is known by its address.
inline std::map<const char*, size_t>& buffers() {
  static std::map<const char*, size_t> all;
  return all;
}
inline void announce(const void* data, size_t bytes) { buffers()[static_cast<const char*>(data)] = bytes; }
inline void forget(const void* data) { buffers().erase(static_cast<const char*>(data)); }

// ---- the backend ----------------------------------------------------------------------------------------------------

inline void check(cudaError_t status) {
  if (status != cudaSuccess) FAIL((std::string("CUDA: ") + cudaGetErrorString(status)));
}

inline const Backend* backend() {
  static const Backend* found = [] {
    Failure failure;
    const Backend* backend = find_cuda_backend(0, failure);
    if (!backend) FAIL(failure.text);
    if (!env::cache()) cuda::gap_hook = ptx_forbid;
    return backend;
  }();
  return found;
}

inline bool owns(const void* slot) {
  const char* table = reinterpret_cast<const char*>(backend()->kernels);
  return static_cast<const char*>(slot) >= table && static_cast<const char*>(slot) < table + sizeof(Kernels);
}

// ---- one call -------------------------------------------------------------------------------------------------------

// The device's copies of what a call is given. Each is exactly as large as its buffer and as far from alignment. What a
// kernel may only write starts undefined: a software GPU notices when it is read, or not all written.
class Ferry {
 public:
  ~Ferry() {
    for (auto& [host, copy] : copies_) cudaFree(copy.base);
  }

  // Places first, since one buffer may be both read and written.
  template <class Access>
  void announce(const Access& view) {
    if (!view.data) return;
    const char* at = static_cast<const char*>(view.data);
    auto found = buffers().upper_bound(at);
    REQUIRE_MESSAGE(found != buffers().begin(), "a view of something that is no Buffer");
    --found;
    REQUIRE(at <= found->first + found->second);
    Copy& copy = copies_[found->first];
    copy.bytes = found->second;
    const size_t bytes = static_cast<size_t>(element_count(view) * bytes_per_element(view.dtype));
    copy.read |= !std::is_same_v<Access, Out> || bytes < copy.bytes;  // what lies around a view stays as it is
    copy.written |= !std::is_same_v<Access, In>;
  }
  template <class Access>
  void announce(const List<Access>& list) {
    for (int64_t i = 0; i < list.count; i++) announce(list.data[i]);
  }
  template <class Other>
    requires(!std::is_base_of_v<View, Other>)
  void announce(const Other&) {}

  void send() {
    for (auto& [host, copy] : copies_) {
      const size_t shift = reinterpret_cast<uintptr_t>(host) % 256;
      check(cudaMalloc(&copy.base, copy.bytes + shift + 1));
      copy.data = static_cast<char*>(copy.base) + shift;
      if (copy.read) check(cudaMemcpy(copy.data, host, copy.bytes, cudaMemcpyHostToDevice));
    }
  }

  template <class Access>
    requires(std::is_base_of_v<View, Access>)
  Access moved(Access view) {
    if (!view.data) return view;
    const char* at = static_cast<const char*>(view.data);
    const auto found = --copies_.upper_bound(at);
    view.data = found->second.data + (at - found->first);
    return view;
  }
  template <class Access>
  List<Access> moved(const List<Access>& list) {
    auto& items = lists<Access>().emplace_back();
    for (int64_t i = 0; i < list.count; i++) items.push_back(moved(list.data[i]));
    return {items.data(), list.count};
  }
  template <class Other>
    requires(!std::is_base_of_v<View, Other>)
  Other moved(const Other& value) {
    return value;
  }

  void bring_back() {
    for (auto& [host, copy] : copies_)
      if (copy.written) check(cudaMemcpy(const_cast<char*>(host), copy.data, copy.bytes, cudaMemcpyDeviceToHost));
  }

 private:
  struct Copy {
    void* base = nullptr;
    char* data = nullptr;
    size_t bytes = 0;
    bool read = false, written = false;
  };
  template <class Access>
  std::vector<std::vector<Access>>& lists() {
    if constexpr (std::is_same_v<Access, In>)
      return in_lists_;
    else
      return in_out_lists_;
  }
  std::map<const char*, Copy> copies_;
  std::vector<std::vector<In>> in_lists_;
  std::vector<std::vector<InOut>> in_out_lists_;
};

// With a workspace of exactly the size that the query asks for.
template <class... Args>
void run(const Slot<Args...>& slot, const std::type_identity_t<Args>&... args) {
  Machine machine;
  check(cudaDeviceGetAttribute(&machine.multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  const size_t bytes = slot.workspace ? slot.workspace(machine, args...) : 0;
  Ferry ferry;
  (ferry.announce(args), ...);
  ferry.send();
  Call call;
  call.machine = &machine;
  call.workspace_bytes = bytes;
  if (bytes) check(cudaMalloc(&call.workspace, bytes));
  slot.run(call, ferry.moved(args)...);
  if (const char* failure = cuda::take_failure()) FAIL_CHECK(failure);
  check(cudaGetLastError());
  check(cudaDeviceSynchronize());
  ferry.bring_back();
  if (bytes) check(cudaFree(call.workspace));
}

}  // namespace foretoken::test::gpu

#endif
