#include "errors.h"

namespace foretoken::cuda {

std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

Failure failure_of(cudaError_t error, const char* op) {
  if (error == cudaSuccess) return {};
  const bool memory = error == cudaErrorMemoryAllocation;
  return {.code = memory ? "OUT_OF_MEMORY" : "CUDA_ERROR", .op = op, .text = error_text(error)};
}

Failure op_failed(cudaError_t error, const char* op) {
  return {.code = "CUDA_ERROR",
          .op = op,
          .text = "the GPU failed: " + error_text(error),
          .remedy = "It computes nothing more in this process: start again."};
}

Failure gpu_failed(cudaError_t error, const char* op) {
  Failure failure = op_failed(error, op);
  failure.text = "the GPU failed in something that was enqueued before: " + error_text(error);
  failure.remedy += " With FORETOKEN_SYNC=1 the error comes from the op that fails.";
  return failure;
}

}  // namespace foretoken::cuda
