// cudaMemcpy and cudaMemset in their forms.
#include "copy.h"

using namespace foretoken::ptx::runtime;

namespace {

cudaError_t copy_call(const CopyRequest& request, cudaStream_t stream) {
  return call([&](Runtime& runtime, Lock& lock) { copy(runtime, lock, runtime.stream(stream), request); });
}

cudaError_t fill_call(const FillRequest& request, cudaStream_t stream) {
  return call([&](Runtime& runtime, Lock& lock) { fill(runtime, lock, runtime.stream(stream), request); });
}

CopyRequest linear(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, bool blocking) {
  return {to, from, bytes, bytes, bytes, 1, kind, blocking};
}

char* address_of(Runtime& runtime, const void* symbol, size_t offset, size_t bytes) {
  const Region region = runtime.device().loader->variable(Registry::instance().variable(symbol));
  require(offset <= region.bytes && bytes <= region.bytes - offset, cudaErrorInvalidValue, "beyond the variable's end");
  return reinterpret_cast<char*>(region.address) + offset;
}

enum class Symbol { destination, source };

cudaError_t symbol_call(Symbol which, const void* symbol, size_t offset, void* other, size_t bytes, cudaMemcpyKind kind,
                        cudaStream_t stream, bool blocking) {
  return call([&](Runtime& runtime, Lock& lock) {
    char* variable = address_of(runtime, symbol, offset, bytes);
    copy(runtime, lock, runtime.stream(stream),
         which == Symbol::destination ? linear(variable, other, bytes, kind, blocking)
                                      : linear(other, variable, bytes, kind, blocking));
  });
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy_call(linear(to, from, bytes, kind, true), nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_call(linear(to, from, bytes, kind, false), stream);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return copy_call({to, from, to_pitch, from_pitch, width, height, kind, true}, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_call({to, from, to_pitch, from_pitch, width, height, kind, false}, stream);
}
cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return copy_call(linear(to, from, bytes, cudaMemcpyDeviceToDevice, true), nullptr);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return copy_call(linear(to, from, bytes, cudaMemcpyDeviceToDevice, false), stream);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind kind) {
  return symbol_call(Symbol::destination, symbol, offset, const_cast<void*>(from), bytes, kind, nullptr, true);
}
cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset,
                                    cudaMemcpyKind kind, cudaStream_t stream) {
  return symbol_call(Symbol::destination, symbol, offset, const_cast<void*>(from), bytes, kind, stream, false);
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset, cudaMemcpyKind kind) {
  return symbol_call(Symbol::source, symbol, offset, to, bytes, kind, nullptr, true);
}
cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, size_t bytes, size_t offset, cudaMemcpyKind kind,
                                      cudaStream_t stream) {
  return symbol_call(Symbol::source, symbol, offset, to, bytes, kind, stream, false);
}
cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  return call([&](Runtime& runtime, Lock&) { *address = address_of(runtime, symbol, 0, 0); });
}
cudaError_t cudaGetSymbolSize(size_t* bytes, const void* symbol) {
  return call([&](Runtime& runtime, Lock&) {
    *bytes = runtime.device().loader->variable(Registry::instance().variable(symbol)).bytes;
  });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) { return fill_call({to, value, bytes, bytes, 1}, nullptr); }
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return fill_call({to, value, bytes, bytes, 1}, stream);
}
cudaError_t cudaMemset2D(void* to, size_t pitch, int value, size_t width, size_t height) {
  return fill_call({to, value, pitch, width, height}, nullptr);
}
cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  return fill_call({to, value, pitch, width, height}, stream);
}

}  // extern "C"
