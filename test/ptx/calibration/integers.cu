// Integer arithmetic and bit operations as nvcc compiles them, against the host's of the same C++ or a plain loop.
#include <algorithm>
#include <bit>

#include "check.h"

using namespace calibration;

namespace {

constexpr int kOutputs = 30;
using Outputs = uint64_t[kOutputs];

// What either side can say in C++. The divisors are odd, so never zero, and never -1, which could overflow.
__host__ __device__ int common(uint64_t a, uint64_t b, uint64_t* out) {
  const auto x = static_cast<int64_t>(a), y = static_cast<int64_t>(b | 5);
  const auto narrow_x = static_cast<int32_t>(a), narrow_y = static_cast<int32_t>(b | 5);
  const auto small_x = static_cast<uint32_t>(a), small_y = static_cast<uint32_t>(b | 5);
  int i = 0;
  if (y != -1) out[i++] = static_cast<uint64_t>(x / y), out[i++] = static_cast<uint64_t>(x % y);
  if (narrow_y != -1)
    out[i++] = static_cast<uint64_t>(narrow_x / narrow_y), out[i++] = static_cast<uint64_t>(narrow_x % narrow_y);
  out[i++] = a / (b | 5);
  out[i++] = a % (b | 5);
  out[i++] = small_x / small_y;
  out[i++] = small_x % small_y;
  out[i++] = static_cast<uint64_t>(x / 7 + narrow_x % 10) + small_x / 641;  // by multiplication
  out[i++] = a * b;
  out[i++] = a >> (b & 63);
  out[i++] = a << (b & 63);
  out[i++] = static_cast<uint64_t>(x >> (b & 63));
  out[i++] = static_cast<uint64_t>(narrow_x >> (b & 31)) ^ small_x << (b & 31);
  out[i++] = (a & b) ^ (a | ~b) ^ (b & 0x5555);
  out[i++] = static_cast<uint64_t>(static_cast<int8_t>(a)) ^ static_cast<uint16_t>(b);
  // Carries.
  const unsigned __int128 wide =
      (static_cast<unsigned __int128>(a) << 64 | b) + (static_cast<unsigned __int128>(b) << 40);
  out[i++] = static_cast<uint64_t>(wide >> 64) ^ static_cast<uint64_t>(wide);
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b - wide;
  out[i++] = static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
  return i;
}

// What the host has to write as loops.
int intrinsics_on_host(uint64_t a, uint64_t b, uint64_t* out) {
  const auto x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b), z = static_cast<uint32_t>(b >> 32);
  int i = 0;
  out[i++] = static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
  out[i++] = static_cast<uint64_t>(static_cast<__int128>(static_cast<int64_t>(a)) * static_cast<int64_t>(b) >> 64);
  out[i++] = uint64_t{x} * y >> 32;
  uint64_t reversed = 0;
  for (int bit = 0; bit < 64; ++bit) reversed |= (a >> bit & 1) << (63 - bit);
  out[i++] = reversed;
  out[i++] = static_cast<uint64_t>(std::countl_zero(x) * 100 + std::countl_zero(a));
  out[i++] = static_cast<uint64_t>((x ? std::countr_zero(x) + 1 : 0) * 100 + (a ? std::countr_zero(a) + 1 : 0));
  out[i++] = static_cast<uint64_t>(std::popcount(x) * 100 + std::popcount(a));
  uint32_t permuted = 0;
  const uint64_t pair = uint64_t{y} << 32 | x;
  for (int byte = 0; byte < 4; ++byte)
    permuted |= static_cast<uint32_t>(pair >> (z >> byte * 4 & 7) * 8 & 0xff) << byte * 8;
  out[i++] = permuted;
  out[i++] = static_cast<uint32_t>(pair << (z & 31) >> 32);
  out[i++] = static_cast<uint32_t>(pair >> (z & 31));
  out[i++] = static_cast<uint32_t>(pair >> std::min(z & 63, 32u));
  int dot = static_cast<int>(z);
  for (int byte = 0; byte < 4; ++byte)
    dot = static_cast<int>(static_cast<uint32_t>(dot) + static_cast<uint32_t>(static_cast<int8_t>(x >> byte * 8) *
                                                                              static_cast<int8_t>(y >> byte * 8)));
  out[i++] = static_cast<uint32_t>(dot);
  out[i++] = std::max(x, y) - std::min(x, y) + z;
  out[i++] = static_cast<uint32_t>((x & 0xffffff) * (y & 0xffffff));
  out[i++] = (uint64_t{x} + y + 1) >> 1;
  return i;
}

__device__ int intrinsics_on_device(uint64_t a, uint64_t b, uint64_t* out) {
  const auto x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b), z = static_cast<uint32_t>(b >> 32);
  int i = 0;
  out[i++] = __umul64hi(a, b);
  out[i++] = static_cast<uint64_t>(__mul64hi(static_cast<int64_t>(a), static_cast<int64_t>(b)));
  out[i++] = __umulhi(x, y);
  out[i++] = __brevll(a);
  out[i++] = static_cast<uint64_t>(__clz(static_cast<int>(x)) * 100 + __clzll(static_cast<int64_t>(a)));
  out[i++] = static_cast<uint64_t>(__ffs(static_cast<int>(x)) * 100 + __ffsll(static_cast<int64_t>(a)));
  out[i++] = static_cast<uint64_t>(__popc(x) * 100 + __popcll(a));
  out[i++] = __byte_perm(x, y, z & 0x7777);
  out[i++] = __funnelshift_l(x, y, z);
  out[i++] = __funnelshift_r(x, y, z);
  out[i++] = __funnelshift_rc(x, y, z & 63);
  out[i++] = static_cast<uint32_t>(__dp4a(static_cast<int>(x), static_cast<int>(y), static_cast<int>(z)));
  out[i++] = __usad(x, y, z);
  out[i++] = __umul24(x, y);
  out[i++] = __urhadd(x, y);
  return i;
}

enum class What { common, intrinsics };

template <What kWhat>
__global__ void compute(const uint64_t* a, const uint64_t* b, Outputs* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if constexpr (kWhat == What::common)
    common(a[i], b[i], out[i]);
  else
    intrinsics_on_device(a[i], b[i], out[i]);
}

template <What kWhat, class OnHost>
void check(const char* name, OnHost on_host) {
  constexpr int kCount = 1 << 14;
  Buffer<uint64_t> a(kCount), b(kCount), out(kCount * kOutputs);
  uint64_t state = 17;
  // Of every size, and now and then all ones or all zeros in the upper bits.
  const auto random = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bits = state ^ state >> 29;
    return static_cast<uint64_t>(static_cast<int64_t>(bits) >> (bits % 61));
  };
  for (int i = 0; i < kCount; ++i) a.host[i] = random(), b.host[i] = random();
  for (const uint64_t edge : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 31, uint64_t{UINT32_MAX}})
    a.host[edge % 97] = edge, b.host[edge % 89] = edge;
  a.to_device();
  b.to_device();
  out.to_device();
  compute<kWhat><<<kCount / 128, 128>>>(a.device, b.device, reinterpret_cast<Outputs*>(out.device));
  finish(name);
  out.to_host();
  std::vector<uint64_t> expected(out.host.size());
  for (int i = 0; i < kCount; ++i) on_host(a.host[i], b.host[i], &expected[i * kOutputs]);
  require_equal(name, out.host, expected);
}

}  // namespace

int main() {
  check<What::common>("integer arithmetic", common);
  check<What::intrinsics>("integer intrinsics", intrinsics_on_host);
}
