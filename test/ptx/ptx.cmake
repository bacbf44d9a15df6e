# The software GPU of the tests: a stand-in libcudart.so.13 that executes the PTX in the very objects that ship. Linked
# with it: the addon (ptx/foretoken.node), the C++ kernel tests, and the tests of the software GPU itself.
file(GLOB_RECURSE ptx_sources CONFIGURE_DEPENDS test/ptx/ptx/*.cpp test/ptx/machine/*.cpp test/ptx/runtime/*.cpp
     test/ptx/sanitizer/*.cpp)
set(ptx_folder ${CMAKE_BINARY_DIR}/ptx)
# Made for the machine that runs the tests. -ffp-contract=off: the only fused operations are those that PTX asks for.
set(ptx_flags -Wall -Wextra -O3 -march=native -ffp-contract=off -fno-math-errno
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)   # GCC 12 sees an overlap in "text" + std::string() (GCC bug 105651)

# PTX alone, no machine code, for what never runs anywhere else.
set(sm80_ptx "-gencode=arch=compute_80,code=[compute_80]")
set(sm90_ptx "-gencode=arch=compute_90a,code=[compute_90a]")

add_library(ptx_objects OBJECT ${ptx_sources})
target_compile_options(ptx_objects PRIVATE ${ptx_flags})
target_include_directories(ptx_objects PUBLIC test/ptx)
target_include_directories(ptx_objects SYSTEM PUBLIC ${CUDAToolkit_ROOT}/include)

add_library(ptx_cudart SHARED)
target_link_libraries(ptx_cudart PRIVATE ptx_objects dl Threads::Threads)
set(cudart_map ${CMAKE_CURRENT_SOURCE_DIR}/test/ptx/runtime/libcudart.map)
target_link_options(ptx_cudart PRIVATE -Wl,--version-script=${cudart_map})
set_target_properties(ptx_cudart PROPERTIES OUTPUT_NAME cudart VERSION 13 SOVERSION 13 LINKER_LANGUAGE CXX
                      LINK_DEPENDS ${cudart_map} LIBRARY_OUTPUT_DIRECTORY ${ptx_folder})

if(TARGET foretoken)
  addon(foretoken_ptx ptx_cudart)
  set_target_properties(foretoken_ptx PROPERTIES OUTPUT_NAME foretoken LIBRARY_OUTPUT_DIRECTORY ${ptx_folder}
                        LIBRARY_OUTPUT_DIRECTORY_RELEASE ${ptx_folder} BUILD_RPATH "$ORIGIN" EXCLUDE_FROM_ALL ON)
endif()

# The kernel tests of test/native, run on the CUDA backend: the same cases, bounds and guard zones.
set(kernel_tests attention attention_cached cross_entropy cross_entropy_accuracy cross_entropy_contract
    cross_entropy_sizes draft elementwise embedding linear main metrics optimizer plain_cross_entropy rms_norm rnn rope sample swiglu)
list(TRANSFORM kernel_tests REPLACE "(.+)" "test/native/\\1.cpp")
function(kernel_test_program name runtime)
  add_executable(${name} EXCLUDE_FROM_ALL ${kernel_tests})
  target_compile_definitions(${name} PRIVATE FORETOKEN_TEST_CUDA)
  target_include_directories(${name} PRIVATE test/native)
  target_include_directories(${name} SYSTEM PRIVATE ${CUDAToolkit_ROOT}/include)
  target_link_libraries(${name} PRIVATE foretoken_options ${objects} ${runtime} Threads::Threads)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${ptx_folder} BUILD_RPATH "$ORIGIN"
                        LINKER_LANGUAGE CXX)
endfunction()
kernel_test_program(kernel_tests_ptx ptx_cudart)
kernel_test_program(kernel_tests_cuda "${cuda_runtime}")
target_link_options(kernel_tests_cuda PRIVATE -static-libstdc++)   # gpu:bundle takes it to other machines

# Of the software GPU itself: kernels of its own (*.cu), instructions, planted bugs, code known to be right.
file(GLOB_RECURSE ptx_test_sources CONFIGURE_DEPENDS test/ptx/tests/*.cpp)
file(GLOB_RECURSE ptx_test_kernels CONFIGURE_DEPENDS test/ptx/tests/*.cu)
if(ptx_test_sources)
  add_executable(ptx_tests EXCLUDE_FROM_ALL ${ptx_test_sources} test/native/main.cpp)
  target_compile_options(ptx_tests PRIVATE -O2 -ffp-contract=off)
  target_include_directories(ptx_tests PRIVATE test/ptx test/native)
  target_include_directories(ptx_tests SYSTEM PRIVATE ${CUDAToolkit_ROOT}/include)
  target_link_libraries(ptx_tests PRIVATE ptx_objects dl Threads::Threads)
  if(ptx_test_kernels)
    set(ptx_test_kernels_sm90 ${ptx_test_kernels})
    list(FILTER ptx_test_kernels_sm90 INCLUDE REGEX "sm90")
    list(FILTER ptx_test_kernels EXCLUDE REGEX "sm90")
    foreach(kernels ptx_test_kernels ptx_test_kernels_sm90)
      if(${kernels})
        cuda_library(${kernels} ${${kernels}})
        target_include_directories(${kernels} PRIVATE test/ptx test/native)
        target_link_libraries(ptx_tests PRIVATE ${kernels})
      endif()
    endforeach()
    target_compile_options(ptx_test_kernels PRIVATE "SHELL:${sm80_flags}" "SHELL:${sm90_flags}")
    if(ptx_test_kernels_sm90)
      target_compile_options(ptx_test_kernels_sm90 PRIVATE ${sm90_ptx})
    endif()
  endif()
  set_target_properties(ptx_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${ptx_folder} LINKER_LANGUAGE CXX)
endif()

# Programs of CUTLASS, CUB and the math library, known to be right on hardware: one per file, each checks itself.
file(GLOB calibration_sources CONFIGURE_DEPENDS test/ptx/calibration/*.cu)
add_custom_target(ptx_calibration)
foreach(source ${calibration_sources})
  get_filename_component(name ${source} NAME_WE)
  cuda_library(calibrate_${name}_objects ${source})
  if(name MATCHES "sm90")
    target_compile_options(calibrate_${name}_objects PRIVATE ${sm90_ptx})
  else()
    target_compile_options(calibrate_${name}_objects PRIVATE ${sm80_ptx})
  endif()
  set_target_properties(calibrate_${name}_objects PROPERTIES EXCLUDE_FROM_ALL ON)
  add_executable(calibrate_${name} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:calibrate_${name}_objects>)
  target_link_libraries(calibrate_${name} PRIVATE ptx_cudart)
  set_target_properties(calibrate_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${ptx_folder}/calibration
                        BUILD_RPATH "${ptx_folder}" LINKER_LANGUAGE CXX)
  add_dependencies(ptx_calibration calibrate_${name})
endforeach()
