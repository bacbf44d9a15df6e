// NVIDIA's header, with what it declares exported: a build with hidden visibility would hide our definitions too.
#pragma once
#pragma GCC visibility push(default)
#include <cuda_runtime_api.h>
#pragma GCC visibility pop
