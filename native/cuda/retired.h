// What a disposed device leaves to work that is still queued: kept until that has run, without anyone waiting.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>

namespace foretoken::cuda {

// Calls `free_all`, with the GPU current, once the GPU has passed all that is enqueued on the stream by now.
void retire(int device, cudaStream_t stream, std::function<void()> free_all);

// Frees what can be freed; `wait`: all of it. Whether anything was. The thread's current GPU stays.
bool free_retired(bool wait);

}  // namespace foretoken::cuda
