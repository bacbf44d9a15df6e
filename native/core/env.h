// Environment variables that the native side reads, all of them.
#pragma once
#include <string>

namespace foretoken::env {

// FORETOKEN_THREADS: threads that compute. 0 when not given: as many as there are cores for this process.
int threads();
// FORETOKEN_SYNC=1: every op waits until it has run, so that a failure's stack trace points at its cause.
bool sync();
// FORETOKEN_SIMD: the SIMD level to take. Empty when not given.
std::string simd();

}  // namespace foretoken::env
