// simd.h as AVX-512 sees it, in a baseline test program: the pragma stands in for the level's compiler flags.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")
#define FORETOKEN_LEVEL avx512
#define SIMD_FUNCTIONS simd_functions_avx512
#include "simd_functions.inl"
#endif
