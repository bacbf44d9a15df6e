# The CUDA backend. Its objects are compiled once; the addon links them with the static CUDA runtime, the tests with the
# stand-in of test/ptx. Each file goes to the architectures it is for, and no build passes that spills registers or
# serialises wgmma (compile.mjs).
if(NOT CUDAToolkit_ROOT OR NOT FORETOKEN_CUTLASS)
  message(FATAL_ERROR "CUDAToolkit_ROOT and FORETOKEN_CUTLASS must be given: npm run build:cuda does")
endif()
set(CMAKE_CUDA_COMPILER ${CUDAToolkit_ROOT}/bin/nvcc)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")   # CMake 3.25 does not know that nvcc 13 has it
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_FLAGS_RELEASE "-O3")

set(check_resources ${CMAKE_CURRENT_SOURCE_DIR}/native/cuda/compile.mjs)
set(CMAKE_CUDA_COMPILER_LAUNCHER node ${check_resources} ${CMAKE_CXX_COMPILER_LAUNCHER})
# NDEBUG in every configuration: an assert of CUTLASS becomes a call in the main loop, and ptxas serialises wgmma.
set(cuda_flags -DNDEBUG -lineinfo --expt-relaxed-constexpr --compress-mode=size -Xptxas=-v -Xcudafe=--diag_suppress=177
    -Xcompiler=-fPIC,-fvisibility=hidden,-ffunction-sections,-Wall,-Wno-unused-function,-Wno-unknown-pragmas)
# Line numbers stay in the PTX, where the software GPU finds them. Machine code with them would double the addon's
# kernels: ptxas puts the PTX's text beside its tables.
option(FORETOKEN_CUDA_LINES "line numbers in machine code too, for compute-sanitizer and Nsight Compute" OFF)
if(NOT FORETOKEN_CUDA_LINES)
  list(APPEND cuda_flags -Xptxas=--suppress-debug-info)
endif()
set(sm90_flags "-gencode=arch=compute_90a,code=[sm_90a,compute_90a]")
# For every device: machine code for 8.x and 9.0, and PTX for what comes after.
set(sm80_flags "-gencode=arch=compute_80,code=[sm_80,compute_80] -gencode=arch=compute_90a,code=[sm_90a]")

# wgmma and TMA exist for compute_90a alone: for plain compute_90 such files compile to stubs that succeed silently.
file(GLOB cuda_sources CONFIGURE_DEPENDS native/cuda/*.cu)
set(cuda_sm90_sources ${cuda_sources})
list(FILTER cuda_sm90_sources INCLUDE REGEX "sm90")
list(FILTER cuda_sources EXCLUDE REGEX "sm90")

# At most two at a time: one sm_90a product takes 4 GB to compile.
set_property(GLOBAL APPEND PROPERTY JOB_POOLS cuda=2)
function(cuda_library name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE native)
  target_include_directories(${name} SYSTEM PRIVATE ${FORETOKEN_CUTLASS}/include
                             ${FORETOKEN_CUTLASS}/tools/util/include)
  target_compile_options(${name} PRIVATE ${cuda_flags})
  set_target_properties(${name} PROPERTIES JOB_POOL_COMPILE cuda CUDA_STANDARD 20)
  set_property(SOURCE ${ARGN} APPEND PROPERTY OBJECT_DEPENDS ${check_resources})
endfunction()
if(cuda_sources)
  cuda_library(foretoken_cuda ${cuda_sources})
  target_compile_options(foretoken_cuda PRIVATE "SHELL:${sm80_flags}")
  list(APPEND objects foretoken_cuda)
endif()
if(cuda_sm90_sources)
  cuda_library(foretoken_cuda_sm90 ${cuda_sm90_sources})
  target_compile_options(foretoken_cuda_sm90 PRIVATE "SHELL:${sm90_flags}")
  list(APPEND objects foretoken_cuda_sm90)
endif()

file(GLOB cuda_host_sources CONFIGURE_DEPENDS native/cuda/*.cpp)
object_library(foretoken_cuda_host ${cuda_host_sources})
target_include_directories(foretoken_cuda_host SYSTEM PRIVATE ${CUDAToolkit_ROOT}/include)
list(APPEND objects foretoken_cuda_host)
target_compile_definitions(foretoken_options INTERFACE FORETOKEN_CUDA)

set(cuda_runtime ${CUDAToolkit_ROOT}/lib/libcudart_static.a dl rt)
