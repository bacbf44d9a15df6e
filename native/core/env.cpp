#include "env.h"

#include <cstdlib>

namespace foretoken::env {

static std::string value_of(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int threads() {
  constexpr int kMost = 1024;
  const int wanted = std::atoi(value_of("FORETOKEN_THREADS").c_str());
  return wanted < 0 ? 0 : wanted > kMost ? kMost : wanted;
}

bool sync() { return value_of("FORETOKEN_SYNC") == "1"; }

std::string simd() { return value_of("FORETOKEN_SIMD"); }

bool cache() { return value_of("FORETOKEN_CACHE") != "0"; }

std::optional<std::string> visible_gpus() {
  const char* value = std::getenv("CUDA_VISIBLE_DEVICES");
  return value ? std::optional<std::string>(value) : std::nullopt;
}

}  // namespace foretoken::env
