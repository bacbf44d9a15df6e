// simd.h as AVX2 sees it, in a baseline test program: the pragma stands in for the level's compiler flags.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define FORETOKEN_LEVEL avx2
#define SIMD_FUNCTIONS simd_functions_avx2
#include "simd_functions.inl"
#endif
