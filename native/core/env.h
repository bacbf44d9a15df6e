// Environment variables that the native side reads, all of them.
#pragma once
#include <optional>
#include <string>

namespace foretoken::env {

// FORETOKEN_THREADS: threads that compute. 0 when not given: as many as there are cores for this process.
int threads();
// FORETOKEN_SYNC=1: every op waits until it has run, so that a failure's stack trace points at its cause.
bool sync();
// FORETOKEN_SIMD: the SIMD level to take. Empty when not given.
std::string simd();

// FORETOKEN_CACHE=0: on a GPU every tensor and workspace has memory of its own, so that a tool sees where each ends.
bool cache();
// CUDA_VISIBLE_DEVICES: what CUDA reads, for our messages. nullopt when not given.
std::optional<std::string> visible_gpus();

}  // namespace foretoken::env
