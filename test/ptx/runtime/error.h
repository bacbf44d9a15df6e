// A failing call of the runtime: the code that it returns, and why, for people.
#pragma once
#include <stdexcept>
#include <string>

#include "cuda_api.h"

namespace foretoken::ptx::runtime {

struct Error : std::runtime_error {
  Error(cudaError_t error_code, const std::string& why) : std::runtime_error(why), code(error_code) {}
  cudaError_t code;
};

inline void require(bool condition, cudaError_t code, const char* why) {
  if (!condition) throw Error(code, why);
}

}  // namespace foretoken::ptx::runtime
