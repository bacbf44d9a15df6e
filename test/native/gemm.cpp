// The product engine of every vector level, against sums in double, and its promise that an element's bits depend on K
// alone.
#include <string>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

// What native/cpu/gemm.h declares, for every level at once.
#define FOR_EACH_ENGINE(X) X(avx2) X(avx512) X(avx512bf16) X(amx)
#define X(level)                                                                                                   \
  namespace foretoken::level {                                                                                     \
  struct Matrix {                                                                                                  \
    const void* data;                                                                                              \
    DType dtype;                                                                                                   \
    int64_t rows, columns, stride;                                                                                 \
    bool transposed;                                                                                               \
  };                                                                                                               \
  int64_t packed_bytes(DType dtype, int64_t k, int64_t n);                                                         \
  void pack_b(const Matrix& b, int64_t n0, int64_t n1, void* packed);                                              \
  const void* packed_panel(DType dtype, const void* packed, int64_t k, int64_t n);                                 \
  void gemm_block(DType dtype, const void* a, int64_t lda, const void* packed, int64_t m, int64_t n, int64_t k,    \
                  float* c, int64_t ldc, bool accumulate);                                                         \
  void transpose(DType dtype, const void* in, int64_t ldi, int64_t rows, int64_t columns, void* out, int64_t ldo); \
  }
FOR_EACH_ENGINE(X)
#undef X

namespace {

struct Engine {
  std::string level;
  decltype(&avx2::packed_bytes) packed_bytes;
  void (*pack_b)(const void* data, DType dtype, int64_t k, int64_t n, int64_t stride, bool transposed, int64_t n0,
                 int64_t n1, void* packed);
  decltype(&avx2::packed_panel) packed_panel;
  decltype(&avx2::gemm_block) gemm_block;
  decltype(&avx2::transpose) transpose;
};

// body(engine) for every level that has one and that this machine can run.
template <class Body>
void for_each_engine(Body body) {
  for_each_level([&](const Backend& backend) {
#define X(name)                                                                                                  \
  if (std::string(backend.level) == #name)                                                                       \
    body(Engine{                                                                                                 \
        #name, name::packed_bytes,                                                                               \
        [](const void* data, DType dtype, int64_t k, int64_t n, int64_t stride, bool transposed, int64_t n0,     \
           int64_t n1, void* packed) { name::pack_b({data, dtype, k, n, stride, transposed}, n0, n1, packed); }, \
        name::packed_panel, name::gemm_block, name::transpose});
    FOR_EACH_ENGINE(X)
#undef X
  });
}

// B (k×n) packed, from rows of k or, transposed, from rows of n; both lie in memory with 3 elements of NaN between
// rows.
template <class T>
Buffer<uint8_t> pack(const Engine& engine, const std::vector<double>& b, int64_t k, int64_t n, bool transposed) {
  int64_t rows = transposed ? n : k, columns = transposed ? k : n, stride = columns + 3;
  Buffer<T> matrix(rows * stride, 1);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      matrix[r * stride + c] = from_double<T>(transposed ? b[c * n + r] : b[r * n + c]);
  Buffer<uint8_t> packed(engine.packed_bytes(DTypeOf<T>::value, k, n));
  // In two parts, the second first: each column goes where it belongs in the whole.
  int64_t middle = (n / 2 + 15) / 16 * 16;
  engine.pack_b(matrix.data(), DTypeOf<T>::value, k, n, stride, transposed, middle, n, packed.data());
  engine.pack_b(matrix.data(), DTypeOf<T>::value, k, n, stride, transposed, 0, middle, packed.data());
  CHECK(packed.guards_intact());
  return packed;
}

// A (m×k) with NaN between and after its rows.
template <class T>
Buffer<T> spread_rows(const std::vector<double>& a, int64_t m, int64_t k, int64_t stride) {
  Buffer<T> matrix(m * stride, 1);
  for (int64_t r = 0; r < m; r++)
    for (int64_t i = 0; i < k; i++) matrix[r * stride + i] = from_double<T>(a[r * k + i]);
  return matrix;
}

template <class T>
std::vector<double> rounded(const std::vector<double>& values) {
  return Buffer<T>::of(values).values();
}

// |c − exact| ≤ eps·(k+2)·Σ|a||b|: the bound of one chain of k rounded additions in fp32.
template <class T>
void check_product(const Engine& engine, int64_t m, int64_t n, int64_t k, bool transposed, bool accumulate) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(transposed);
  CAPTURE(accumulate);
  std::vector<double> a = rounded<T>(random_normal(m * k, 1, 10 + m)), b = rounded<T>(random_normal(k * n, 1, 20 + n));
  int64_t lda = k + 5, ldc = n + 3;
  Buffer<T> rows = spread_rows<T>(a, m, k, lda);
  Buffer<uint8_t> packed = pack<T>(engine, b, k, n, transposed);
  Buffer<float> c(m * ldc, 1);
  if (accumulate)
    for (int64_t r = 0; r < m; r++)
      for (int64_t i = 0; i < n; i++) c[r * ldc + i] = static_cast<float>(r - i);
  engine.gemm_block(DTypeOf<T>::value, rows.data(), lda, packed.data(), m, n, k, c.data(), ldc, accumulate);
  CHECK(c.guards_intact());
  double worst = 0;
  bool between_rows_written = false;
  for (int64_t r = 0; r < m; r++) {
    for (int64_t i = 0; i < n; i++) {
      double exact = accumulate ? static_cast<double>(r - i) : 0, size = std::abs(exact);
      for (int64_t s = 0; s < k; s++) {
        exact += a[r * k + s] * b[s * n + i];
        size += std::abs(a[r * k + s] * b[s * n + i]);
      }
      double error = std::abs(c[r * ldc + i] - exact) / (size * (k + 2) * 6e-8 + 1e-30);
      worst = error <= worst ? worst : error;  // NaN becomes the worst
    }
    for (int64_t i = n; i < ldc; i++) between_rows_written |= !std::isnan(c[r * ldc + i]);
  }
  CHECK(worst <= 1.0);
  CHECK(!between_rows_written);
}

template <class T>
void check_products(const Engine& engine) {
  for (int64_t m : {1, 2, 6, 7, 15, 16, 17, 31, 32, 33, 48, 49, 65})
    for (int64_t n : {1, 15, 16, 17, 31, 32, 33, 64, 65}) check_product<T>(engine, m, n, 37, m % 2 == 0, n % 2 == 0);
  for (int64_t k : {1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 255, 256, 257, 511, 512, 513, 1000, 1025})
    for (bool transposed : {false, true})
      for (bool accumulate : {false, true}) check_product<T>(engine, 35, 39, k, transposed, accumulate);
}

// Row r of a batch of m is the row computed alone; columns computed from any panel on are those of the whole.
template <class T>
void check_bits(const Engine& engine, int64_t k) {
  CAPTURE(k);
  constexpr DType dtype = DTypeOf<T>::value;
  constexpr int64_t kRows = 70, kColumns = 83;
  int64_t lda = k + 1;
  Buffer<T> a = spread_rows<T>(random_normal(kRows * k, 1, k), kRows, k, lda);
  Buffer<uint8_t> packed = pack<T>(engine, random_normal(k * kColumns, 1, k + 1), k, kColumns, true);
  Buffer<float> alone(kRows * kColumns), batch(kRows * kColumns);
  for (int64_t r = 0; r < kRows; r++)
    engine.gemm_block(dtype, a.data() + r * lda, lda, packed.data(), 1, kColumns, k, alone.data() + r * kColumns,
                      kColumns, false);
  for (int64_t m = 1; m <= kRows; m++) {
    batch.poison();
    engine.gemm_block(dtype, a.data(), lda, packed.data(), m, kColumns, k, batch.data(), kColumns, false);
    CHECK(std::memcmp(alone.data(), batch.data(), m * kColumns * sizeof(float)) == 0);
  }
  for (int64_t first : {16, 32, 48, 64, 80}) {
    batch = alone;
    for (int64_t r = 0; r < kRows; r++) std::memset(batch.data() + r * kColumns + first, 0xff, (kColumns - first) * 4);
    engine.gemm_block(dtype, a.data(), lda, engine.packed_panel(dtype, packed.data(), k, first), kRows,
                      kColumns - first, k, batch.data() + first, kColumns, false);
    CHECK(batch.same_bits(alone));
  }
}

template <class T>
void check_chain_goes_on(const Engine& engine) {
  constexpr DType dtype = DTypeOf<T>::value;
  constexpr int64_t kRows = 37, kColumns = 50, kFirst = 96, kAll = 161;
  std::vector<double> b = random_normal(kAll * kColumns, 1, 2);
  Buffer<T> a = Buffer<T>::of(random_normal(kRows * kAll, 1, 1));
  Buffer<uint8_t> whole = pack<T>(engine, b, kAll, kColumns, false);
  Buffer<uint8_t> first = pack<T>(engine, {b.begin(), b.begin() + kFirst * kColumns}, kFirst, kColumns, false);
  Buffer<uint8_t> second = pack<T>(engine, {b.begin() + kFirst * kColumns, b.end()}, kAll - kFirst, kColumns, false);
  Buffer<float> once(kRows * kColumns), twice(kRows * kColumns);
  engine.gemm_block(dtype, a.data(), kAll, whole.data(), kRows, kColumns, kAll, once.data(), kColumns, false);
  engine.gemm_block(dtype, a.data(), kAll, first.data(), kRows, kColumns, kFirst, twice.data(), kColumns, false);
  engine.gemm_block(dtype, a.data() + kFirst, kAll, second.data(), kRows, kColumns, kAll - kFirst, twice.data(),
                    kColumns, true);
  CHECK(twice.same_bits(once));
}

template <class T>
void check_transpose(const Engine& engine, int64_t rows, int64_t columns) {
  CAPTURE(rows);
  CAPTURE(columns);
  int64_t ldi = columns + 1, ldo = rows + 3;
  Buffer<T> in = Buffer<T>::of(random_normal(rows * ldi, 1, rows)), out(columns * ldo), expected(columns * ldo);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) expected[c * ldo + r] = in[r * ldi + c];
  engine.transpose(DTypeOf<T>::value, in.data(), ldi, rows, columns, out.data(), ldo);
  CHECK(out.same_bits(expected));
  CHECK(out.guards_intact());
}

}  // namespace

TEST_CASE("gemm: products are exact to one fp32 chain, at tile edges and with NaN around the operands") {
  for_each_engine([](const Engine& engine) {
    check_products<float>(engine);
    check_products<bf16>(engine);
  });
}

TEST_CASE("gemm: an element's bits depend on K and the level alone") {
  for_each_engine([](const Engine& engine) {
    for (int64_t k : {1, 31, 32, 33, 511, 1000}) {
      check_bits<float>(engine, k);
      check_bits<bf16>(engine, k);
    }
  });
}

TEST_CASE("gemm: accumulating goes on with the same chain") {
  for_each_engine([](const Engine& engine) {
    check_chain_goes_on<float>(engine);
    check_chain_goes_on<bf16>(engine);
  });
}

TEST_CASE("gemm: a product over no k is zero, or what was there") {
  for_each_engine([](const Engine& engine) {
    Buffer<float> c(6);
    Buffer<uint8_t> nothing(64);
    for (DType dtype : {DType::f32, DType::bf16}) {
      engine.gemm_block(dtype, nothing.data(), 0, nothing.data(), 2, 3, 0, c.data(), 3, false);
      CHECK(c.same_bits(Buffer<float>::filled(6, 0)));
      c = Buffer<float>::filled(6, 5);
      engine.gemm_block(dtype, nothing.data(), 0, nothing.data(), 2, 3, 0, c.data(), 3, true);
      CHECK(c.same_bits(Buffer<float>::filled(6, 5)));
    }
  });
}

TEST_CASE("gemm: transpose") {
  for_each_engine([](const Engine& engine) {
    for (int64_t rows : {1, 2, 15, 16, 17, 31, 32, 33, 65})
      for (int64_t columns : {1, 7, 8, 15, 16, 17, 33}) {
        check_transpose<float>(engine, rows, columns);
        check_transpose<bf16>(engine, rows, columns);
      }
  });
}
