// CUDA's errors as failures.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "../core/failure.h"

namespace foretoken::cuda {

// "an illegal memory access was encountered (cudaErrorIllegalAddress)"
std::string error_text(cudaError_t error);

// Nothing for cudaSuccess. CUDA_ERROR, or OUT_OF_MEMORY where memory was what lacked.
Failure failure_of(cudaError_t error, const char* op);

// Something that ran on the GPU failed with this, this op or one before: nothing more runs on it in this process.
Failure op_failed(cudaError_t error, const char* op);
Failure gpu_failed(cudaError_t error, const char* op);

// Runs calls in a row until one fails: Steps().then(cudaA, x).then(cudaB, y).error.
struct Steps {
  cudaError_t error = cudaSuccess;

  template <class Function, class... Given>
  Steps& then(Function function, Given... given) {
    if (error == cudaSuccess) error = function(given...);
    return *this;
  }
};

}  // namespace foretoken::cuda
