// What the software GPU counts, against numbers that follow from the kernels: bank conflicts, sectors, FLOP, barriers.
#include <cstring>
#include <fstream>
#include <string>

#include "gemm_sm80.h"

using namespace calibration;

namespace {

// The file that PTX_REPORT names gets a line of JSON per launch.
class Counters {
 public:
  Counters() {
    require(mkstemp(file_) >= 0, "mkstemp", file_);
    setenv("PTX_REPORT", file_, 1);
  }
  ~Counters() { std::remove(file_); }

  // Of the latest launch.
  void read() {
    finish("synchronize");
    std::ifstream lines(file_);
    for (std::string line; std::getline(lines, line);) line_ = line;
  }
  uint64_t value(const char* name) const {
    const std::string key = std::string("\"") + name + "\":";
    const size_t at = line_.find(key);
    require(at != std::string::npos, "no counter", name);
    return std::strtoull(line_.c_str() + at + key.size() + (line_[at + key.size()] == '['), nullptr, 10);
  }
  void expect(const char* what, const char* name, uint64_t expected) {
    const uint64_t found = value(name);
    std::printf("%s: %s is %llu\n", what, name, static_cast<unsigned long long>(found));
    require(found == expected, what, ("expected " + std::to_string(expected)).c_str());
  }

 private:
  char file_[40] = "/tmp/calibration-counters-XXXXXX";
  std::string line_;
};

struct Product : HalfProducts {
  using Element = f16;
  using Tile = Shape<128, 128, 32>;
  using Warp = Shape<64, 64, 32>;
  static constexpr int kStages = 3, kAlignmentD = 4;
};

// CUTLASS lays its tiles out so that no access of the main loop or the epilogue conflicts.
void check_product(Counters& counters) {
  constexpr int kM = 256, kN = 128, kK = 96;
  run<Product>("f16 128x128x32", kM, kN, kK);
  counters.read();
  constexpr uint64_t kBlocks = 2, kWarps = 4, kProducts = kBlocks * kWarps * (64 / 16) * (64 / 8) * (kK / 16);
  counters.expect("f16 128x128x32", "shared_wavefronts_excess", 0);
  counters.expect("f16 128x128x32", "tensor_flop", 2ull * kM * kN * kK);
  counters.expect("f16 128x128x32", "tensor", kProducts);
  // Each block brings its rows of A and its columns of B once, and D leaves once.
  counters.expect("f16 128x128x32", "asynchronous_bytes", kBlocks * (128 + 128) * kK * sizeof(f16));
  counters.expect("f16 128x128x32", "store_bytes", kM * kN * sizeof(float));
  counters.expect("f16 128x128x32", "store_sectors", kM * kN * sizeof(float) / 32);
  counters.expect("f16 128x128x32", "blocks", kBlocks);
  counters.expect("f16 128x128x32", "warps", kBlocks * kWarps);
}

// Rows in, columns out: with rows of 32 words, the words of a column all lie in one bank.
template <class T, int kRow>
__global__ void transpose(const T* in, T* out) {
  __shared__ T tile[32][kRow];
  for (int row = threadIdx.y; row < 32; row += blockDim.y) tile[row][threadIdx.x] = in[row * 32 + threadIdx.x];
  __syncthreads();
  for (int row = threadIdx.y; row < 32; row += blockDim.y) out[row * 32 + threadIdx.x] = tile[threadIdx.x][row];
}

template <class T, int kRow>
void check_transpose(Counters& counters, const char* name, uint64_t wavefronts, uint64_t excess) {
  Buffer<T> in(1024), out(1024);
  in.fill(1, 500);
  transpose<T, kRow><<<1, dim3(32, 8)>>>(in.device, out.device);
  out.to_host();
  std::vector<T> expected(1024);
  for (int i = 0; i < 1024; ++i) expected[i] = in.host[i % 32 * 32 + i / 32];
  require_equal(name, out.host, expected);
  counters.read();
  counters.expect(name, "shared_wavefronts", wavefronts);
  counters.expect(name, "shared_wavefronts_excess", excess);
  counters.expect(name, "barriers", 8);
  counters.expect(name, "load_sectors", 1024 * sizeof(T) / 32);
}

// Lane i takes the vector at i × stride; all through shared memory, in accesses of sizeof(T).
template <class T>
__global__ void strided(const T* in, T* out, int stride) {
  __shared__ T words[32 * 8];
  words[threadIdx.x * stride] = in[threadIdx.x * stride];
  __syncwarp();
  out[threadIdx.x] = words[threadIdx.x * stride];
}

template <class T>
void check_strided(Counters& counters, const char* name, int stride, uint64_t sectors, uint64_t wavefronts,
                   uint64_t excess) {
  Buffer<float> in(32 * 8 * sizeof(T) / 4), out(32 * sizeof(T) / 4);
  in.fill(1, 500);
  strided<<<1, 32>>>(reinterpret_cast<const T*>(in.device), reinterpret_cast<T*>(out.device), stride);
  out.to_host();
  std::vector<float> expected(out.host.size());
  constexpr size_t kWords = sizeof(T) / 4;
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = in.host[i / kWords * stride * kWords + i % kWords];
  require_equal(name, out.host, expected);
  counters.read();
  counters.expect(name, "load_sectors", sectors);
  counters.expect(name, "load_sectors_minimum", 32 * sizeof(T) / 32);
  counters.expect(name, "store_sectors", 32 * sizeof(T) / 32);
  counters.expect(name, "load_bytes", 32 * sizeof(T));
  counters.expect(name, "shared_wavefronts", 2 * wavefronts);
  counters.expect(name, "shared_wavefronts_excess", 2 * excess);
}

__global__ void diverge(int* out) {
  int value = threadIdx.x;
  if (threadIdx.x % 32 < 5)
    for (int i = 0; i < 3; ++i) atomicAdd(out, 1);
  if (threadIdx.x < 64) atomicAdd(out, value);  // the same way in every lane of a warp
}

void check_atomics(Counters& counters) {
  Buffer<int> out(1);
  out.to_device();
  diverge<<<3, 96>>>(out.device);
  out.to_host();
  require_equal("atomics", out.host, {3 * (3 * 5 * 3 + 63 * 64 / 2)});
  counters.read();
  counters.expect("atomics", "atomics", 3 * (3 * 5 * 3 + 64));
  counters.expect("atomics", "load_bytes", 0);
}

}  // namespace

int main() {
  Counters counters;
  check_product(counters);
  // 32 rows written, one wavefront each, and 32 columns read.
  check_transpose<float, 33>(counters, "transpose with padded rows", 64, 0);
  check_transpose<float, 32>(counters, "transpose", 32 + 32 * 32, 32 * 31);
  // 64-bit words count per 16 lanes: two wavefronts a row. In a column the lanes share two banks.
  check_transpose<double, 33>(counters, "transpose of doubles with padded rows", 128, 0);
  check_transpose<double, 32>(counters, "transpose of doubles", 64 + 64 * 16, 64 * 15);
  check_strided<float>(counters, "one word apart", 1, 4, 1, 0);
  check_strided<float>(counters, "two words apart", 2, 8, 2, 1);
  check_strided<float>(counters, "eight words apart", 8, 32, 8, 7);
  check_strided<float2>(counters, "pairs", 1, 8, 2, 0);
  check_strided<float2>(counters, "every other pair", 2, 16, 4, 2);
  check_strided<float4>(counters, "quadruples", 1, 16, 4, 0);
  check_strided<float4>(counters, "every fourth quadruple", 4, 32, 16, 12);
  check_atomics(counters);
}
